"""Which devices run the models, an inference process each. Finds GPUs without importing torch (250 MB)."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from engine.errors import UsageError
from engine.models import backends
from engine.models.backends.base import kind_of

#: A name in `--device`; `auto` is accepted alone only.
NAME = re.compile(r"cpu|mps|cuda(:\d+)?")

#: Libraries of a torch that can use a GPU; a torch for CPUs alone has neither.
GPU_LIBRARIES = ("libtorch_cuda.so", "libtorch_hip.so")


def devices(option: str = "auto", backend: str = "auto") -> list[str]:
    """The devices that `--device` names, in order; a name may come more than once, as `cpu,cpu`.

    `auto` is every GPU that this process may use (`CUDA_VISIBLE_DEVICES` counts) and the backend runs on,
    else `cpu`. Whether a device that is named is there is found when a model is loaded. Raises `UsageError`
    for a name of another form.
    """
    names = parse_devices(option)
    if names != ["auto"]:
        return names
    able = None if backend == "auto" else backends.get(backend).devices
    return [name for name in gpus() if able is None or kind_of(name) in able] or ["cpu"]


def parse_devices(option: str) -> list[str]:
    """The names in `--device`; `["auto"]` is one of them. Raises `UsageError` for a name of another form."""
    names = option.split(",")
    for name in names:
        if not (NAME.fullmatch(name) or option == "auto"):
            raise UsageError(
                f"--device {option}: {name!r} is not cpu, cuda, cuda:N or mps; give auto alone, or several"
                " separated by commas"
            )
    return names


def gpus() -> list[str]:
    """The GPUs that torch can use here, by its names for them; empty where there are none."""
    if sys.platform == "darwin":
        return ["mps"] if platform.machine() == "arm64" else []
    if not torch_uses_gpus():
        return []
    if count := cuda_devices():
        return [f"cuda:{index}" for index in range(count)]
    # AMD's driver: torch names its GPUs cuda too. How many there are is not known here.
    return ["cuda"] if Path("/dev/kfd").exists() else []


def torch_uses_gpus() -> bool:
    """Whether the installed torch was built for GPUs, by the libraries it brings."""
    found = find_spec("torch")
    folders = found.submodule_search_locations or [] if found else []
    return any((Path(folder) / "lib" / name).exists() for folder in folders for name in GPU_LIBRARIES)


def cuda_devices() -> int:
    """The number of GPUs that the CUDA driver shows to this process; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    # Both return 0 on success. The driver applies CUDA_VISIBLE_DEVICES.
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if found else 0
