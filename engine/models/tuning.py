"""What is fastest on a device is tried once for each model and device, then remembered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version

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
    name = name_of(batches.device, "batches", model, sizes)
    if (known := recall(name)) and known.isdigit() and int(known) in sizes:
        batches.budget = int(known)
        return
    best, rate = sizes[0], 0.0
    began = time.monotonic()
    for size in sizes:
        batches.budget = size
        embed(size)  # which compiles and allocates
        seconds = min(seconds_of(partial(embed, 2 * size)) for _ in range(ROUNDS))
        if batches.budget < size:
            best = min(best, batches.budget) if rate == 0.0 else best
            break
        if 2 * size / seconds > WORTH * rate:
            best, rate = size, 2 * size / seconds
        if time.monotonic() - began > PATIENCE_S:
            break
    batches.budget = best
    remember(name, str(best))


def fastest(device: torch.device, model: str, ways: Mapping[str, Callable[[], object]]) -> str:
    """The name of the way that does its work fastest; the first unless another is `WORTH` it.

    `model` tells models and number formats apart. Raises what the ways raise.
    """
    name = name_of(device, "ways", model, sorted(ways))
    if (known := recall(name)) is not None and known in ways:
        return known
    for call in ways.values():
        call()  # which compiles and allocates
    rounds = [{way: seconds_of(call) for way, call in ways.items()} for _ in range(ROUNDS)]
    first, *others = {way: min(each[way] for each in rounds) for way in ways}.items()
    best = min(others, key=lambda each: each[1], default=first)
    chosen = best[0] if WORTH * best[1] < first[1] else first[0]
    remember(name, chosen)
    return chosen


def name_of(device: torch.device, what: str, *parts: object) -> str:
    """Under what to remember something of a device and these versions of the libraries."""
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    key = "\0".join(map(str, (place, torch.__version__, version("transformers"), *parts)))
    return f"{what}/{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes, more than nothing."""
    started = time.perf_counter()
    call()
    return max(time.perf_counter() - started, 1e-9)
