"""Which device and number format a model runs in. Imports torch: for the inference process alone."""

from __future__ import annotations

import torch

from engine.errors import UsageError
from engine.models.probes import FAITHFUL, FAITHFUL_IN_REDUCED_PRECISION


def choose_device(name: str) -> torch.device:
    """The device of this name. Raises `UsageError` that names what this machine has."""
    available = ["cpu"]
    if torch.cuda.is_available():
        available += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    if name not in available:
        raise UsageError(f"--device {name} is not available: this machine has {', '.join(available)}")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format of this name; `auto` is bfloat16 where a CUDA device computes in it, else float32.

    Apple's GPU gains little by bfloat16.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """The number format as `--dtype` has it."""
    return str(dtype).removeprefix("torch.")


def device_name(device: torch.device) -> str:
    """The device, and which model of a GPU it is."""
    kind = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return f"{device}{kind}"


def faithful(dtype: torch.dtype) -> float:
    """The lowest accepted cosine to the reference for a model in this number format."""
    return FAITHFUL if dtype == torch.float32 else FAITHFUL_IN_REDUCED_PRECISION
