"""Runs a model over as many inputs at once as its device has memory for. Imports torch.

A device may also be lost: after some errors nothing works on it until the process is a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from engine.errors import DeviceLostError, UsageError
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


class Batches:
    """Embeds in batches of at most `budget`, which shrinks for good when a batch doesn't fit.

    The budget is in the unit of the lengths: padded tokens, or pictures.
    """

    def __init__(self, device: torch.device, budget: int) -> None:
        self.device = device
        self.budget = budget

    def embed(
        self,
        lengths: Sequence[int],
        dimensions: int,
        forward: Callable[[list[int]], Vector],
        smallest: Callable[[], Vector],
        on_batch: Callable[[], None] | None = None,
    ) -> Vector:
        """The vectors of inputs of these lengths, float32 [n, dimensions].

        `forward` embeds the inputs at the indices that it is given, `smallest` one that needs next to no
        memory; `on_batch` is called after each batch. Raises `TooLargeError` when all that fits is done, and
        `DeviceLostError`.
        """
        vectors = np.full((len(lengths), dimensions), np.nan, dtype=np.float32)
        too_large: list[int] = []
        waiting = set(range(len(lengths)))
        while waiting:
            indices = sorted(waiting)
            for places in batches([lengths[index] for index in indices], self.budget):
                batch = [indices[place] for place in places]
                if (found := self._attempt(partial(forward, batch))) is not None:
                    vectors[batch] = found
                elif len(batch) > 1:
                    self.budget = max(1, len(batch) * max(lengths[index] for index in batch) // 2)
                    break  # what waits is put together anew, in batches that there may be room for
                elif self._attempt(smallest) is None:
                    # Nothing would fit, so this input is not to blame.
                    raise DeviceLostError(f"{self.device}: no memory left, not even for the smallest input")
                else:
                    too_large += batch
                waiting.difference_update(batch)
                if on_batch:
                    on_batch()
        if too_large:
            raise TooLargeError(vectors, sorted(too_large))
        return vectors

    def _attempt(self, forward: Callable[[], Vector]) -> Vector | None:
        """What the call returns, or None where the device's memory doesn't suffice."""
        with watched(self.device):
            try:
                return forward()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, because the traceback holds on to the tensors of the attempt.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            elif self.device.type == "mps":
                torch.mps.empty_cache()
        return None


@contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Within it an error that tells of a lost device is a `DeviceLostError`."""
    try:
        yield
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
    if not isinstance(error, RuntimeError) or is_out_of_memory(error) or _says(error, MISFIT):
        return False
    # By name, because the type is younger than the oldest torch that is accepted.
    return type(error).__name__ == "AcceleratorError" or _says(error, LOST)


def _says(error: Exception, words: Sequence[str]) -> bool:
    text = str(error).lower()
    return any(each in text for each in words)
