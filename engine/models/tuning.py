"""How large batches are fastest on a device: measured once for each model and device, then remembered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

import torch

from engine.models.digest import recall, remember
from engine.models.memory import Batches

#: A smaller batch is taken where a larger one is no more than so many times as fast: it leaves memory.
WORTH = 1.03

#: Passes of each size, of which the fastest counts, and seconds after which no larger size is tried.
ROUNDS, PATIENCE_S = 3, 5.0


def tune(batches: Batches, model: str, sizes: Sequence[int], embed: Callable[[int], None]) -> None:
    """Set the budget of the batches to the fastest of `sizes`, which ascend.

    `model` tells models and number formats apart; `embed` embeds inputs of that many units together. A size
    that the device has no memory for ends the search. Raises `DeviceLostError`.
    """
    device = batches.device
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    key = hashlib.sha256(f"1\0{model}\0{place}\0{torch.__version__}\0{sizes}".encode()).hexdigest()
    name = f"batches/{key[:32]}"
    if (known := recall(name)) and known.isdigit() and int(known) in sizes:
        batches.budget = int(known)
        return
    best, rate = sizes[0], 0.0
    began = time.monotonic()
    for size in sizes:
        batches.budget = size
        embed(size)  # which compiles and allocates
        seconds = min(_seconds(embed, 2 * size) for _ in range(ROUNDS))
        if batches.budget < size:
            best = min(best, batches.budget) if rate == 0.0 else best
            break
        if 2 * size / seconds > WORTH * rate:
            best, rate = size, 2 * size / seconds
        if time.monotonic() - began > PATIENCE_S:
            break
    batches.budget = best
    remember(name, str(best))


def _seconds(embed: Callable[[int], None], units: int) -> float:
    started = time.perf_counter()
    embed(units)
    return max(time.perf_counter() - started, 1e-9)
