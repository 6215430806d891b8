"""What it costs on this machine to make a model faster, in processor seconds: as it was the last time."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Literal

from engine.machine.processor import machine
from engine.models import cache

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


def _name(step: Step) -> str:
    here = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()
    return f"costs/{here[:16]}-{step}"
