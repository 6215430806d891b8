"""Runs an exported model on the CPU: a thread for each core, each with small batches of its own.

`Session` is what the backends that run graphs share, `OnnxSession` is ONNX Runtime's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import DeviceLostError
from engine.machine.cores import cores
from engine.models.batching import TooLargeError
from engine.records import Vector

#: Of ONNX Runtime's log levels the highest: its errors are exceptions, and needn't be on standard error too.
LOG_FATAL = 4

#: What errors about memory say (in lower case): from ONNX Runtime's allocator, and from that of C++.
NO_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "std::length_error")

#: Inputs per core in one window: enough that all cores finish at about the same time.
INPUTS_OF_A_CORE = 64

#: The arguments of one call: an array for each of the graph's inputs, with the batch as first axis.
Feed: TypeAlias = tuple[npt.NDArray[Any], ...]


class Session(ABC):
    """One loaded graph with one output, whose first axis is that of its inputs: of the batch.

    Calls of one thread each, side by side, need no barrier in each layer, where threads that share a call
    wait for each other: the longer, the busier the machine is. Each call has a batch as large as it has to be
    for the weights to be read from memory often enough for many tokens, and no larger, because what it
    computes shall stay in the core's cache (`benchmarks.speed.backends`).
    """

    #: The backend whose session it is, and its number format.
    backend: str
    dtype = "float32"

    #: Bytes that inputs of many different lengths take in the end.
    growth = 0

    #: Padded tokens of a batch, and what its padded length is a multiple of.
    batch_tokens, bucket = 256, 1

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="session")

    @abstractmethod
    def _vectors(self, fed: Feed) -> Vector:
        """The graph's output for what it is fed, float32 [n, dimensions]; several threads call it at once."""

    @property
    def window(self) -> int:
        """How many inputs are best given to `embed` at once."""
        return INPUTS_OF_A_CORE * cores()

    def embed(
        self,
        batches: Iterable[list[int]],
        shape: tuple[int, int],
        feed: Callable[[list[int]], Feed],
        smallest: Feed,
        on_batch: Callable[[], None] | None = None,
    ) -> Vector:
        """The vectors of the inputs that `batches` name by their indices, float32 of that `shape`.

        `feed` gives what the graph is fed for a batch, `smallest` is what needs next to no memory;
        `on_batch` is called after each batch. Raises `TooLargeError` when all that fits is done, and
        `DeviceLostError`.
        """
        vectors = np.full(shape, np.nan, dtype=np.float32)
        planned = list(batches)
        failed: list[int] = []
        # The longest first: missing memory shows at once, and the cores finish together.
        done = self._pool.map(lambda batch: self._attempt(feed, batch), planned)
        for batch, found in zip(planned, done, strict=True):
            if found is None:
                failed += batch
            else:
                vectors[batch] = found
            if on_batch:
                on_batch()
        too_large = []
        for index in sorted(failed):  # what didn't fit beside others may fit alone
            found = self._attempt(feed, [index])
            if found is None:
                too_large.append(index)
            else:
                vectors[index] = found[0]
        if too_large:
            if self._attempt(lambda _: smallest, []) is None:
                raise DeviceLostError("cpu: no memory left, not even for the smallest input")
            raise TooLargeError(vectors, too_large)
        return vectors

    def _attempt(self, feed: Callable[[list[int]], Feed], batch: list[int]) -> Vector | None:
        """The vectors of a batch, float32 [n, dimensions], or None where memory is too small."""
        try:
            return self._vectors(feed(batch))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None


class OnnxSession(Session):
    """By ONNX Runtime, each call in one thread."""

    backend = "onnx"

    def __init__(self, model: Path) -> None:
        super().__init__()
        import onnxruntime

        onnxruntime.set_default_logger_severity(LOG_FATAL)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Memory plans are for one shape, and here each call has another.
        options.enable_mem_pattern = False
        self._session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [each.name for each in self._session.get_inputs()]

    def _vectors(self, fed: Feed) -> Vector:
        (vectors,) = self._session.run(None, dict(zip(self._inputs, fed, strict=True)))
        return np.asarray(vectors, dtype=np.float32)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch might have worked."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)
