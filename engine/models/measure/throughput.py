"""How fast a loaded model is alone, with nothing else to do: measured once, then remembered."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from engine.machine.cores import cores
from engine.models.backends.base import ImageEmbedder, OnBatch, TextEmbedder
from engine.models.cache import recall, remember
from engine.records import Kind

#: Seconds that a measurement goes on, at least two rounds; inputs of one round at most, unless the model's
#: window has more.
MEASURE_S = 2.0
ROUND_INPUTS = 256

#: Pictures of the first round, and of the last: a whole batch of a GPU.
FIRST_IMAGES, MOST_IMAGES = 4, 256


def text_throughput(model: TextEmbedder, lengths: Sequence[int], on_batch: OnBatch | None = None) -> float:
    """Tokens a second of the loaded model over inputs of these lengths, in tokens; the best of its rounds.

    Every call returns its vectors to this process, so that a device has done its work by then. Raises what
    the model raises.
    """
    longest = model.spec.max_tokens or max(lengths)
    most = max(ROUND_INPUTS, model.window or 0)
    taken = [min(length, longest) for length in lengths[:most]]
    if model.effective_mode == "ids":
        ids = [np.ones(length, dtype=np.int32) for length in taken]
        return _best(lambda: model.embed_ids(ids, on_batch), sum(taken))
    texts = ["word " * max(1, length - 2) for length in taken]
    return _best(lambda: model.embed_texts(texts, on_batch), sum(taken))


def image_throughput(model: ImageEmbedder, on_batch: OnBatch | None = None) -> float:
    """Pictures a second of the loaded model; the best of its rounds. Raises what the model raises."""
    height, width = model.spec.size
    rate, count = 0.0, FIRST_IMAGES
    while True:
        pixels = np.zeros((count, height, width, 3), dtype=np.uint8)
        rate = max(rate, _once(partial(model.embed_pixels, pixels, on_batch), count))
        # A slow device is not held up by the number that a fast one needs to be busy.
        if count >= MOST_IMAGES or count / rate > MEASURE_S / 2:
            return rate
        count *= 4


def _best(call: Callable[[], object], units: float) -> float:
    best, ends, rounds = 0.0, time.monotonic() + MEASURE_S, 0
    while rounds < 2 or time.monotonic() < ends:
        best = max(best, _once(call, units))
        rounds += 1
    return best


def _once(call: Callable[[], object], units: float) -> float:
    began = time.perf_counter()
    call()
    return units / max(1e-9, time.perf_counter() - began)


def remembered(
    model: TextEmbedder | ImageEmbedder,
    kind: Kind,
    lengths: Sequence[int],
    measure: Callable[[], float],
    again: bool = False,
) -> float:
    """The model's throughput from the user's cache; measured now where it isn't there, or `again`.

    It is kept by model digest, device, backend, number format, machine, and the mean length to the nearest
    power of two: a model is slower with short inputs.
    """
    key = {
        "digest": model.spec.digest,
        "kind": kind,
        "device": model.device_name,
        "choice": str(model.choice),
        "machine": f"{platform.node()}, {cores()} cores",
        "mean_length": 2 ** round(math.log2(max(1.0, sum(lengths) / max(1, len(lengths))))),
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = f"throughput/{name}.json"
    if not again and (found := recall(path)) is not None:
        try:
            rate = float(json.loads(found)["per_second"])
            if 0 < rate < math.inf:
                return rate
        except (ValueError, KeyError, TypeError):
            pass  # not of this form: measured anew
    rate = measure()
    remember(path, json.dumps({**key, "per_second": rate}, indent=1) + "\n")
    return rate
