"""Runs a model in batches that fit in the memory of its device. Imports torch.

Some errors make a device unusable for the process; only a new process can use it again.
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

#: Words (in lower case) of errors about memory that have no type of their own: from CUDA outside of torch's
#: allocator, from CUDA's libraries, from torch on a CPU, from Apple's GPU.
NO_MEMORY = ("out of memory", "status_alloc_failed", "defaultcpuallocator", "invalid buffer size")

#: Words (in lower case) of errors after which a process can't use its device any more.
LOST = (
    *("cuda error", "cuda driver error", "cudaerror", "device-side assert", "cudnn error"),
    *("cudacachingallocator", "hip error", "command buffer"),
)

#: Words of an error that every process would get: this torch has no code for such a device.
MISFIT = ("no kernel image is available",)


_Result = TypeVar("_Result")

#: Embeds the inputs at the given indices: float32 [n, dimensions], on a GPU perhaps still being computed.
Forward = Callable[[list[int]], torch.Tensor]


class Batches:
    """Embeds in batches of at most `budget`, which shrinks permanently when a batch doesn't fit.

    The budget is in the unit of the lengths: tokens with padding, or pictures. With `side_by_side` a CPU runs
    one batch per core, each in its own thread, so that cores don't wait for each other in each layer. On CUDA
    the next batch is prepared and started while one is computed; the vectors of a batch are fetched after the
    next one has started.
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

        `smallest` embeds an input that needs very little memory; `on_batch` is called after each batch.
        Raises `TooLargeError` after everything that fits is embedded, and `DeviceLostError`.
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
                    break  # form new, smaller batches of what is left
                else:
                    alone += batch
                waiting.difference_update(batch)
                if on_batch:
                    on_batch()
            begun.close()
        too_large = []
        for index in sorted(alone):  # what didn't fit beside other batches may fit now
            found = self._attempt(lambda index=index: forward([index]).cpu().numpy())  # type: ignore[misc]
            if found is not None:
                vectors[index] = found
            elif self._attempt(smallest) is None:
                # Not even that fits, so the size of this input is not the cause.
                raise DeviceLostError(f"{self.device}: no memory left, not even for the smallest input")
            else:
                too_large.append(index)
        if too_large:
            raise TooLargeError(vectors, too_large)
        return vectors

    def _each(
        self, planned: Iterator[list[int]], forward: Forward, lengths: Sequence[int]
    ) -> Generator[tuple[list[int], Vector | None]]:
        """Each batch with its vectors, or None where memory was too small; `_ahead` are in progress."""
        begun: deque[tuple[list[int], Callable[[], Vector] | None]] = deque()

        def first() -> tuple[list[int], Vector | None]:
            batch, fetch = begun.popleft()
            return batch, None if fetch is None else self._attempt(fetch)

        try:
            for batch in planned:
                # A larger one runs alone on all cores, so that its memory is needed only once.
                small = sum(lengths[index] for index in batch) <= self.budget
                begun.append((batch, self._attempt(partial(self._begin, forward, batch, small))))
                if len(begun) > self._ahead:
                    yield first()
            while begun:
                yield first()
        finally:
            # No batch may still run beside what comes next.
            while begun:
                with suppress(Exception):
                    first()

    def _begin(self, forward: Forward, batch: list[int], small: bool) -> Callable[[], Vector]:
        """Start to embed a batch; the returned function waits for its vectors."""
        if self._pool is not None and small:
            future = self._pool.submit(forward, batch)
            return lambda: future.result().numpy()
        vectors = forward(batch)
        if vectors.device.type != "cuda":
            return lambda: vectors.cpu().numpy()
        # Into pinned memory, which the device copies to while the next batch is prepared.
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
        """What the call returns, or None where the device is out of memory."""
        with watched(self.device):
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, because the traceback keeps the tensors of the attempt alive.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
        return None


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array on the device; on CUDA copied from pinned memory, without waiting for the copy."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Turns an error after which the device is unusable into a `DeviceLostError`."""
    try:
        yield
    except DeviceLostError:
        raise
    except Exception as error:
        if is_lost(error):
            raise DeviceLostError(
                f"{device} failed, and this process can no longer use it: {one_line(error)}"
            ) from error
        raise


@contextmanager
def loading(what: str, folder: object, device: torch.device) -> Iterator[None]:
    """Turns an error while a model is loaded into a `UsageError`, unless the device is lost."""
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
    """Whether a smaller batch might have worked."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _says(error, NO_MEMORY)


def is_lost(error: Exception) -> bool:
    """Whether only a new process can use the device again."""
    if isinstance(error, DeviceLostError):
        return True
    if not isinstance(error, RuntimeError) or is_out_of_memory(error) or _says(error, MISFIT):
        return False
    # By name, because the oldest supported torch doesn't have the type.
    return type(error).__name__ == "AcceleratorError" or _says(error, LOST)


def _says(error: Exception, words: Sequence[str]) -> bool:
    text = str(error).lower()
    return any(each in text for each in words)
