"""How fast is a model alone, and the device at multiplying? `… MODEL_FOLDER text|image DEVICE DTYPE SECONDS`.

A process of its own; the last line is JSON: items a second, floating-point operations of an item, the
device's peak at products of matrices in the model's numbers, and what it is called.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.backends import flop
from engine.models.load import load_image, load_text
from engine.models.measure.throughput import image_throughput, text_throughput
from engine.models.resolve import resolve_image, resolve_text

#: Rows and columns of the matrices, by kind of device.
SIDES = {"cuda": 8_192}
SIDE = 1_024

#: Inputs of a text model, each as long as it may be.
INPUTS = 256


def peak(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Operations a second of a product of two square matrices, the best of what goes into so many seconds."""
    side = SIDES.get(device.type, SIDE)
    matrix = torch.rand(side, side, device=device, dtype=dtype)
    best, ends = 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # which waits for the device
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best


def image_flop(module: Any, size: tuple[int, int], device: torch.device) -> float:
    """Operations of the products in the image tower for one picture, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    picture = torch.zeros((1, 3, *size), device=device, dtype=next(module.parameters()).dtype)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module.encode_image(picture)
    return float(counter.get_total_flops())


def main() -> int:
    """The command."""
    folder, kind, device_name, dtype, seconds = sys.argv[1:]
    device = torch.device(device_name)
    model: Any
    if kind == "text":
        model = load_text(resolve_text(folder), device_name, dtype, "torch")
        lengths = [model.spec.max_tokens or 512] * INPUTS
        rate, each = text_throughput(model, lengths), flop(lengths, Path(folder)) / sum(lengths)
    else:
        model = load_image(resolve_image(folder), device_name, dtype, "torch")
        rate, each = image_throughput(model), image_flop(model.module, model.spec.size, device)
    found = peak(device, model.dtype, float(seconds))
    told = {
        "rate": rate,
        "flop": each,
        "peak": found,
        "device": model.device_name,
        "dtype": model.choice.dtype,
    }
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
