"""Which device and number format a model runs in. Imports torch: for the inference process alone."""

from __future__ import annotations

import torch

from engine.errors import UsageError
from engine.models.probes import FAITHFUL, FAITHFUL_IN_REDUCED_PRECISION

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of this name; `auto` takes CUDA, then Apple's GPU, then the CPU.

    Raises `UsageError` that names what this machine has.
    """
    available = available_devices()
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in available))
    if name not in available:
        raise UsageError(f"device {name!r} is not here: this machine has {', '.join(['auto', *available])}")
    return torch.device(name)


def available_devices() -> list[str]:
    """The names that `choose_device` takes on this machine, `auto` apart."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of this name; `auto` is bfloat16 where a CUDA device computes in it, else float32.

    On CPUs without instructions of its own for it bfloat16 is four times slower than float32, and Apple's
    GPU gains little by it.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise UsageError(f"dtype {name!r} is unknown: one of auto, {', '.join(DTYPES)} is expected")
    return DTYPES[name]


def faithful(dtype: torch.dtype) -> float:
    """The least cosine between vectors of one model in these numbers, however it is run."""
    return FAITHFUL if dtype == torch.float32 else FAITHFUL_IN_REDUCED_PRECISION
