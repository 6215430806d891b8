"""The SLURM job that this process runs in, and having it requeued.

Every call of a SLURM command has a deadline, because it waits for ever where the controller is gone. A run
outside of SLURM, or one whose controller does not answer, continues without.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime

from engine.errors import EXIT_STOPPED, UsageError

#: Seconds that one call of a SLURM command may take.
DEADLINE_S = 60.0

#: Seconds for an answer of SLURM inside a job; tries to requeue a job, and seconds between them.
ASK_S, TRIES, PAUSE_S = 20.0, 3, 2.0

#: Times that a job requeues itself: what stopped it a hundred times will stop it again.
MOST_RESTARTS = 100


class SlurmError(UsageError):
    """SLURM refuses, doesn't answer, or isn't installed; the text has its message."""


def call(*command: str, deadline_s: float = DEADLINE_S) -> str:
    """The output of a SLURM command, with times in ISO form. Raises `SlurmError`."""
    own = {**os.environ, "SLURM_TIME_FORMAT": "standard"} if command[0] == "squeue" else None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=deadline_s, check=False, env=own
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; run this where SLURM's commands are installed") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: {(error.strerror or str(error)).lower()}") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {deadline_s:g} s; is the controller up?") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {re.sub(f'{command[0]}: (error: )?', '', said)[:300]}")
    return done.stdout


def settings() -> dict[str, str]:
    """The cluster's configuration. Raises `SlurmError`."""
    lines = call("scontrol", "show", "config").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def requeues(exit_code: int) -> bool:
    """Whether the cluster puts a job that ends so back into the queue by itself. Raises `SlurmError`."""
    value = settings().get("RequeueExit", "")
    return any(int(a) <= exit_code <= int(b or a) for a, b in re.findall(r"(\d+)(?:-(\d+))?", value))


def name(environment: Mapping[str, str]) -> str | None:
    """This job's id for SLURM's commands, `JOB_TASK` for a task of an array; None outside of a job."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


def place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Which task of how many this is, from 0; None outside of an array, or in one with gaps, such as what is
    left of a larger one, where the place among the others is not that among the shares."""
    names = ("ID", "MIN", "MAX", "COUNT")
    told = [environment.get(f"SLURM_ARRAY_TASK_{each}", "") for each in names]
    if not all(value.isdigit() for value in told):
        return None
    number, least, most, count = map(int, told)
    return (number - least, count) if most - least + 1 == count else None


def ends_at(environment: Mapping[str, str]) -> float | None:
    """When the job's time limit ends it, in seconds since 1970; None outside of a job, or where SLURM doesn't
    tell. (Of a job without a limit it says a year.)"""
    job = name(environment)
    if job is None:
        return None
    told = environment.get("SLURM_JOB_END_TIME", "")
    if told.isdigit():
        return float(told)
    try:
        return datetime.fromisoformat(_ask("squeue", "-h", "-j", job, "-o", "%e")).timestamp()
    except ValueError:
        return None


def requeue(environment: Mapping[str, str]) -> bool:
    """Have this job run again, where the cluster doesn't do that for its exit code; whether it was asked.

    Only where this process is all that is left of the job: the batch script itself, whose place it took by
    `exec`. A job that ends for another reason (cancelled, preempted, out of time) is left to SLURM.
    """
    job = name(environment)
    if job is None or environment.get("SLURM_TASK_PID") != str(os.getpid()):
        return False
    if _ask("squeue", "-h", "-j", job, "-o", "%T") != "RUNNING":
        return False
    try:
        if requeues(EXIT_STOPPED):
            return False
        if int(environment.get("SLURM_RESTART_COUNT") or 0) >= MOST_RESTARTS:
            print(f"engine.run: job {job} has been run again {MOST_RESTARTS} times", file=sys.stderr)
            return False
    except SlurmError:
        pass  # One request too many does no harm.
    for attempt in range(TRIES):
        try:
            call("scontrol", "requeue", job, deadline_s=ASK_S)
        except SlurmError as error:
            if attempt == TRIES - 1:
                print(f"engine.run: job {job} is not run again: {error}", file=sys.stderr)
            time.sleep(PAUSE_S)
        else:
            print(f"engine.run: job {job} is back in the queue", file=sys.stderr)
            return True
    return False


def _ask(*command: str) -> str:
    try:
        return call(*command, deadline_s=ASK_S).strip()
    except SlurmError:
        return ""
