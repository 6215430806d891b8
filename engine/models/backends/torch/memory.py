"""Runs a model over as many inputs at once as its device has memory for. Imports torch.

A device may also be lost: after some errors nothing works on it until the process is a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from engine.errors import DeviceLostError, UsageError
from engine.machine.cores import cores
from engine.models.batching import TooLargeError, batches
from engine.models.quiet import one_line
from engine.records import Vector

#: What errors about memory say (in lower case) that have no type of their own: from CUDA beside torch's
#: allocator, from CUDA's libraries, from torch on a CPU, from Apple's GPU.
NO_MEMORY = ("out of memory", "status_alloc_failed", "defaultcpuallocator", "invalid buffer size")

#: What errors say (in lower case) after which a process can do nothing more with its device.
LOST = (
    *("cuda error", "cuda driver error", "cudaerror", "device-side assert", "cudnn error"),
    *("cudacachingallocator", "hip error", "command buffer"),
)

#: What an error says that any process would meet: this torch has no code for such a device.
MISFIT = ("no kernel image is available",)


_Result = TypeVar("_Result")

#: What embeds the inputs at the indices that it is given: float32 [n, dimensions], perhaps still being made.
Forward = Callable[[list[int]], torch.Tensor]


class Batches:
    """Embeds in batches of at most `budget`, which shrinks for good when a batch doesn't fit.

    The budget is in the unit of the lengths: tokens, padding's included, or pictures. With `side_by_side`
    batches on a CPU run in a thread for each core, which needn't wait for each other in each layer. On CUDA
    a batch is prepared and begun while the one before is computed, and its vectors are fetched when the next
    one has begun.
    """

    def __init__(self, device: torch.device, budget: int, side_by_side: bool = False) -> None:
        self.device = device
        self.budget = budget
        self._pool: ThreadPoolExecutor | None = None
        self._ahead = 1 if device.type == "cuda" else 0
        if side_by_side and device.type == "cpu":
            self._pool = ThreadPoolExecutor(cores(), "torch", torch.set_num_threads, (1,))
            self._ahead = cores() + 1

    @property
    def side_by_side(self) -> bool:
        """Whether several threads run the model."""
        return self._pool is not None

    def embed(
        self,
        lengths: Sequence[int],
        dimensions: int,
        forward: Forward,
        smallest: Callable[[], torch.Tensor],
        on_batch: Callable[[], None] | None = None,
    ) -> Vector:
        """The vectors of inputs of these lengths, float32 [n, dimensions].

        `smallest` embeds an input that needs next to no memory; `on_batch` is called after each batch.
        Raises `TooLargeError` when all that fits is done, and `DeviceLostError`.
        """
        vectors = np.full((len(lengths), dimensions), np.nan, dtype=np.float32)
        alone: list[int] = []
        waiting = set(range(len(lengths)))
        while waiting:
            indices = sorted(waiting)
            planned = batches([lengths[index] for index in indices], self.budget)
            begun = self._each(([indices[place] for place in places] for places in planned), forward, lengths)
            for batch, found in begun:
                if found is not None:
                    vectors[batch] = found
                elif len(batch) > 1:
                    self.budget = max(1, len(batch) * max(lengths[index] for index in batch) // 2)
                    break  # what waits is put together anew, in batches that there may be room for
                else:
                    alone += batch
                waiting.difference_update(batch)
                if on_batch:
                    on_batch()
            begun.close()
        too_large = []
        for index in sorted(alone):  # what didn't fit beside others may fit now
            found = self._attempt(lambda index=index: forward([index]).cpu().numpy())  # type: ignore[misc]
            if found is not None:
                vectors[index] = found
            elif self._attempt(smallest) is None:
                # Nothing would fit, so this input is not to blame.
                raise DeviceLostError(f"{self.device}: no memory left, not even for the smallest input")
            else:
                too_large.append(index)
        if too_large:
            raise TooLargeError(vectors, too_large)
        return vectors

    def _each(
        self, planned: Iterator[list[int]], forward: Forward, lengths: Sequence[int]
    ) -> Generator[tuple[list[int], Vector | None]]:
        """Each batch with its vectors, or with None where the memory doesn't suffice; some run ahead."""
        begun: deque[tuple[list[int], Callable[[], Vector] | None]] = deque()

        def first() -> tuple[list[int], Vector | None]:
            batch, fetch = begun.popleft()
            return batch, None if fetch is None else self._attempt(fetch)

        try:
            for batch in planned:
                # A longer one takes all the cores for itself, and memory only once.
                small = sum(lengths[index] for index in batch) <= self.budget
                begun.append((batch, self._attempt(partial(self._begin, forward, batch, small))))
                if len(begun) > self._ahead:
                    yield first()
            while begun:
                yield first()
        finally:
            # Nothing runs on beside what comes next.
            while begun:
                with suppress(Exception):
                    first()

    def _begin(self, forward: Forward, batch: list[int], small: bool) -> Callable[[], Vector]:
        """Begin to embed a batch; the result waits for its vectors."""
        if self._pool is not None and small:
            future = self._pool.submit(forward, batch)
            return lambda: future.result().numpy()
        vectors = forward(batch)
        if vectors.device.type != "cuda":
            return lambda: vectors.cpu().numpy()
        # Into memory that the device writes to by itself, while the next batch is made ready.
        host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        host.copy_(vectors, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def fetch() -> Vector:
            done.synchronize()
            array: Vector = host.numpy()
            return array

        return fetch

    def _attempt(self, work: Callable[[], _Result]) -> _Result | None:
        """What the call returns, or None where the device's memory doesn't suffice."""
        with watched(self.device):
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, because the traceback holds on to the tensors of the attempt.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
        return None


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device; to CUDA it is on its way, from memory that the device reads by itself."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Within it an error that tells of a lost device is a `DeviceLostError`."""
    try:
        yield
    except DeviceLostError:
        raise
    except Exception as error:
        if is_lost(error):
            raise DeviceLostError(f"{device} is lost to this process: {one_line(error)}") from error
        raise


@contextmanager
def loading(what: str, folder: object, device: torch.device) -> Iterator[None]:
    """Within it whatever a model's own code raises is a `UsageError`, unless the device is lost."""
    try:
        with watched(device):
            yield
    except (DeviceLostError, UsageError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise UsageError(
                f"{what} does not fit in the memory of {device}: free some of it or choose another --device, "
                "a smaller model or --dtype bfloat16"
            ) from error
        raise UsageError(f"{what} can't be loaded from {folder}: {one_line(error)}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether less work at once might have gone through."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _says(error, NO_MEMORY)


def is_lost(error: Exception) -> bool:
    """Whether only a new process may use the device again."""
    if isinstance(error, DeviceLostError):
        return True
    if not isinstance(error, RuntimeError) or is_out_of_memory(error) or _says(error, MISFIT):
        return False
    # By name, because the type is younger than the oldest torch that is accepted.
    return type(error).__name__ == "AcceleratorError" or _says(error, LOST)


def _says(error: Exception, words: Sequence[str]) -> bool:
    text = str(error).lower()
    return any(each in text for each in words)
