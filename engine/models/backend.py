"""Which library runs the models. Imports neither torch nor ONNX Runtime."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

from engine.errors import UsageError

#: What `--backend` takes.
BACKENDS = ("auto", "torch", "onnx")


def check_backend(backend: str, device: str, dtype: str) -> None:
    """Raises `UsageError` for a backend that isn't known, or lacks the device or number format asked for."""
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is unknown: one of {', '.join(BACKENDS)} is expected")
    for name, value, has in (("device", device, "cpu"), ("dtype", dtype, "float32")):
        if backend == "onnx" and value not in ("auto", has):
            raise UsageError(
                f"--backend onnx has no {name} {value}, only {has}: name that, or --backend torch"
            )


def takes_onnx(backend: str, device: str, dtype: str) -> bool:
    """Whether ONNX Runtime is to run a model, if it can: where asked for, and by `auto` on a CPU in float32.

    Raises as `check_backend`.
    """
    check_backend(backend, device, dtype)
    if backend == "onnx":
        return True
    if backend == "torch" or dtype not in ("auto", "float32"):
        return False
    return device == "cpu" or (device == "auto" and not has_accelerator())


def has_accelerator() -> bool:
    """Whether torch may find a GPU here: asked of the drivers, since importing torch costs 250 MB to know."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    return Path("/dev/kfd").exists() or _cuda_devices() > 0


def _cuda_devices() -> int:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # Both give 0 for success; CUDA_VISIBLE_DEVICES is heeded by the driver itself.
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if found else 0
