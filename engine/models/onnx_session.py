"""Runs an exported model on the CPU: one input a call, without padding, a thread for each core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.cores import cores
from engine.errors import DeviceLostError
from engine.models.batching import TooLargeError
from engine.records import Vector

#: Of ONNX Runtime's log levels the highest: its errors are exceptions, and needn't be on standard error too.
LOG_FATAL = 4

#: What errors about memory say (in lower case): from ONNX Runtime's allocator, and from that of C++.
NO_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "std::length_error")


class Session:
    """One loaded graph with one input and one output, whose first axis is of one input a call.

    Calls of one thread each, side by side, need no padding, and no barrier in each layer, where threads that
    share a call wait for each other: the longer, the busier the machine is (`benchmarks.speed.backends`).
    """

    #: Bytes that inputs of ever new lengths come to take.
    growth = 0

    def __init__(self, model: Path) -> None:
        # Imported on use: OpenVINO's session needs nothing of it.
        import onnxruntime

        onnxruntime.set_default_logger_severity(LOG_FATAL)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Its plans are made for one shape, and here each call has another.
        options.enable_mem_pattern = False
        self._session: Any = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._pool = ThreadPoolExecutor(cores(), thread_name_prefix="onnx")

    def embed(
        self,
        inputs: Sequence[npt.NDArray[Any]],
        dimensions: int,
        smallest: npt.NDArray[Any],
        on_input: Callable[[], None] | None = None,
    ) -> Vector:
        """The vectors of the inputs, each without its first axis, float32 [n, dimensions].

        `smallest` is an input that needs next to no memory; `on_input` is called after each. Raises
        `TooLargeError` when all that fits is done, and `DeviceLostError`.
        """
        vectors = np.full((len(inputs), dimensions), np.nan, dtype=np.float32)
        # The longest first: memory that doesn't suffice shows at once, and the cores finish together.
        order = sorted(range(len(inputs)), key=lambda index: -inputs[index].size)
        failed = []
        for index, found in zip(
            order, self._pool.map(self._attempt, (inputs[i] for i in order)), strict=True
        ):
            if found is None:
                failed.append(index)
            else:
                vectors[index] = found
            if on_input:
                on_input()
        # What didn't fit beside others may fit alone.
        alone = {index: self._attempt(inputs[index]) for index in failed}
        for index, found in alone.items():
            if found is not None:
                vectors[index] = found
        too_large = sorted(index for index, found in alone.items() if found is None)
        if too_large:
            if self._attempt(smallest) is None:
                raise DeviceLostError("cpu: no memory left, not even for the smallest input")
            raise TooLargeError(vectors, too_large)
        return vectors

    def _attempt(self, one: npt.NDArray[Any]) -> Vector | None:
        """The vector of one input, float32 [dimensions], or None where the memory doesn't suffice."""
        try:
            return self._vector(one)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _vector(self, one: npt.NDArray[Any]) -> Vector:
        (vectors,) = self._session.run(None, {self._input: one[None]})
        return np.asarray(vectors[0], dtype=np.float32)


def is_out_of_memory(error: Exception) -> bool:
    """Whether less work at once might have gone through."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY)
