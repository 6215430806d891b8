"""What the job that this process runs in gives it. Nothing here imports more than the standard library."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

#: Seconds that one question to SLURM may take within a job.
ASK_S = 20.0

#: Times that a job puts itself back into the queue, where the cluster doesn't.
MOST_RESTARTS = 100


def name(environment: Mapping[str, str]) -> str | None:
    """This job as SLURM's commands want it, `JOB_TASK` for a task of an array; None outside of any."""
    if array := environment.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{environment.get('SLURM_ARRAY_TASK_ID', '0')}"
    return environment.get("SLURM_JOB_ID")


def ends_at(environment: Mapping[str, str]) -> float | None:
    """When the job's time limit ends it, in seconds since the epoch; None where it has none, or no job."""
    job = name(environment)
    if job is None:
        return None
    told = environment.get("SLURM_JOB_END_TIME", "")
    if told.isdigit():
        return float(told)
    with suppress(ValueError):
        return datetime.fromisoformat(_ask("squeue", "-h", "-j", job, "-o", "%e")).timestamp()
    return None


def requeue(environment: Mapping[str, str]) -> bool:
    """Put this job back into the queue, where the cluster won't do so for its exit code; whether it was done.

    A job that was cancelled, or is requeued already, is left alone.
    """
    job = name(environment)
    if job is None or int(environment.get("SLURM_RESTART_COUNT") or 0) >= MOST_RESTARTS:
        return False
    if _ask("squeue", "-h", "-j", job, "-o", "%T") != "RUNNING":
        return False
    from engine.slurm import client

    with suppress(client.SlurmError):
        if not client.requeues(75):
            client.call("scontrol", "requeue", job, deadline_s=ASK_S)
            # The request ends this very process, soon.
            time.sleep(ASK_S)
            return True
    return False


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
