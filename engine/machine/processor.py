"""The properties of the processor that a model's speed depends on."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from engine.machine.cores import cores

#: The processor's flags for bfloat16 instructions: x86's, and Arm's.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@cache
def computes_in_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AVX512_BF16, AMX, Arm's BF16); others are 4 x slower."""
    return bool(BFLOAT16_FLAGS & set(str(machine()["flags"]).split()))


def machine() -> dict[str, object]:
    """Processor, instructions, and cores of this process."""
    found = _processor()
    return {
        "cpu": found.get("model name", platform.machine()),
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
