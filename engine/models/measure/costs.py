"""What it costs on this machine to make a model faster: processor seconds, as it was the last time, and the
weights that this holds in memory."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Literal

from engine.machine.processor import machine
from engine.models import cache
from engine.models.spec import ImageSpec, TextSpec

Step = Literal["export", "calibration"]

#: Processor seconds where nothing was measured yet (measured with MiniLM: 11 to 14 and 14 to 17).
FIRST_GUESS_S: dict[Step, float] = {"export": 15.0, "calibration": 15.0}


def expected(step: Step) -> float:
    """Processor seconds that this will take."""
    try:
        seconds = float(cache.recall(_name(step)) or "")
    except ValueError:
        return FIRST_GUESS_S[step]
    return seconds if 0 < seconds < math.inf else FIRST_GUESS_S[step]


def remember(step: Step, seconds: float) -> None:
    """It took so many processor seconds."""
    cache.remember(_name(step), f"{seconds}\n")


def weight_bytes(spec: TextSpec | ImageSpec) -> int:
    """Bytes of the model's largest file: its weights, or the largest part of them."""
    if spec.folder is None:
        return 0
    folder = Path(spec.folder)
    if isinstance(spec, ImageSpec) and spec.weights_file is not None:
        return (folder / spec.weights_file).stat().st_size
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)


def _name(step: Step) -> str:
    here = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()
    return f"costs/{here[:16]}-{step}"
