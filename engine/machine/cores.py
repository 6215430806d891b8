"""The cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Mapping


def cores(environment: Mapping[str, str] | None = None) -> int:
    """The number of cores that it may run on, or fewer where its SLURM job has fewer."""
    told = os.environ if environment is None else environment
    usable = len(os.sched_getaffinity(0))
    # The first is set only with --cpus-per-task; the second counts all the job's tasks on this node.
    names = ["SLURM_CPUS_PER_TASK"]
    if told.get("SLURM_NTASKS", "1") == "1":
        names.append("SLURM_CPUS_ON_NODE")
    given = [int(value) for name in names if (value := told.get(name, "")).isdigit() and int(value)]
    return min(usable, given[0]) if given else usable


def default_workers() -> int:
    """Parser processes: the usable cores less one for the model; at least one."""
    return max(1, cores() - 1)
