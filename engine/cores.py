"""The cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Mapping


def cores(environment: Mapping[str, str] = os.environ) -> int:
    """Those that it may run on, or fewer where its batch job was given fewer and nothing holds it to them."""
    usable = len(os.sched_getaffinity(0))
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(usable, int(given))) if given.isdigit() else usable
