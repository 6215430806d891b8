"""The states of a fleet's jobs in SLURM's queue and records."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.errors import EXIT_STOPPED
from engine.machine.batch_job import SlurmError, call

#: States of jobs that did not end by themselves: running the same command again continues.
CUT_OFF = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED")


def queued(jobs: Sequence[str]) -> dict[str, str]:
    """The state of each task that is in the queue, by `JOB_TASK` (or `JOB` for a job without tasks)."""
    if not jobs:
        return {}
    try:
        lines = call("squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i %T").splitlines()
    except SlurmError as error:
        if "Invalid job id" in str(error):  # they ended longer ago than SLURM remembers
            return {}
        raise
    return dict(line.split(maxsplit=1) for line in lines)


def ended(job: str) -> int | None:
    """The exit code of a job that has ended, `EXIT_STOPPED` where it was cut off; None where SLURM has
    forgotten it."""
    try:
        told = call("scontrol", "show", "job", job)
    except SlurmError as error:
        if "Invalid job id" in str(error):
            return None
        raise
    state, code = (re.search(rf"\b{name}=(\S+)", told) for name in ("JobState", "ExitCode"))
    if state is None or code is None:
        return None
    if state[1] in CUT_OFF:
        return EXIT_STOPPED
    number, _, signal = code[1].partition(":")
    return 1 if int(signal or 0) else int(number)
