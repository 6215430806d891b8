"""Which library may run the models, and in which numbers. Imports none of these libraries."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from engine.errors import UsageError
from engine.machine.cores import cores

#: What `--backend` and `--dtype` take.
BACKENDS = ("auto", "torch", "onnx", "openvino")
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")

#: The numbers in which each library runs a model, where not all of `DTYPES`; all but torch on a CPU alone.
NUMBERS = {"onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16")}

#: The processor's flags that tell of instructions for bfloat16: x86's, and Arm's.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """A library and the numbers in which it runs a model."""

    backend: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.backend} {self.dtype}"


#: The way with which all others are compared: the leanest, and torch's vectors by the check of its export.
ONNX = BackendChoice("onnx", "float32")


def check_backend(backend: str, device: str, dtype: str) -> None:
    """Raises `UsageError` for a backend that isn't known or installed, or lacks the device or numbers."""
    if backend not in BACKENDS:
        raise UsageError(f"backend {backend!r} is unknown: one of {', '.join(BACKENDS)} is expected")
    if dtype == "int8" and backend != "onnx":
        raise UsageError(f"--dtype int8 is had by --backend onnx alone, not by {backend}: name that")
    if backend not in NUMBERS:
        return
    for name, value, has in (("device", device, ("cpu",)), ("dtype", dtype, NUMBERS[backend])):
        if value not in ("auto", *has):
            raise UsageError(
                f"--backend {backend} has no {name} {value}, only {' and '.join(has)}: name that, or"
                " --backend torch"
            )
    if backend == "openvino" and not has_openvino():
        raise UsageError(
            "--backend openvino: the package openvino is not installed; pip install"
            " 'vector-streaming-engine[openvino]' brings it"
        )


def ways(backend: str, dtype: str) -> list[BackendChoice]:
    """The ways to run a model on a CPU that these options leave, the leanest in memory first.

    bfloat16 is among those of `auto` where the CPU computes in it: elsewhere it is four times slower. torch
    in float32, slower than ONNX Runtime on every CPU that was measured, is none of them.
    """
    if backend == "torch" or dtype == "float16":
        return [BackendChoice("torch", "float32" if dtype == "auto" else dtype)]
    if backend == "onnx":
        return [BackendChoice("onnx", "float32" if dtype == "auto" else dtype)]
    numbers = ("float32", "bfloat16") if dtype == "auto" and computes_in_bfloat16() else (dtype,)
    numbers = ("float32",) if numbers == ("auto",) else numbers
    found = [BackendChoice("openvino", each) for each in numbers] if has_openvino() else []
    if backend == "openvino":
        return found[-1:]
    lean = [ONNX] if "float32" in numbers else []
    return [
        *lean,
        *found,
        *(BackendChoice("torch", each) for each in numbers if not (lean and each == "float32")),
    ]


def has_openvino() -> bool:
    """Whether the package is installed."""
    return find_spec("openvino") is not None


@cache
def computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AVX512_BF16, AMX, Arm's BF16)."""
    return bool(BFLOAT16_FLAGS & set(str(machine()["flags"]).split()))


def machine() -> dict[str, object]:
    """What the speed of a way depends on here: processor, instructions, cores of this process."""
    found = _processor()
    return {
        "cpu": found.get("model name", platform.processor() or platform.machine()),
        "flags": found.get("flags", found.get("Features", "")),
        "cores": cores(),
    }


@cache
def _processor() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
