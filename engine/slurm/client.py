"""SLURM's commands. Every call has a deadline, for they wait for ever where the controller is gone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from engine.errors import UsageError

#: Seconds that one call of a client may take.
DEADLINE_S = 60.0

#: What a job that was ended, and not by itself, means for who waits for it: the same command goes on.
CUT_OFF = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED")


class SlurmError(UsageError):
    """SLURM refuses, doesn't answer, or isn't there; the text says what it said."""


def call(*command: str, deadline_s: float = DEADLINE_S) -> str:
    """What a client prints. Raises `SlurmError`."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
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
    """The cluster's configuration."""
    lines = call("scontrol", "show", "config").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def requeues(exit_code: int) -> bool:
    """Whether the cluster puts a job that ends so back into the queue by itself."""
    value = settings().get("RequeueExit", "")
    return any(int(a) <= exit_code <= int(b or a) for a, b in re.findall(r"(\d+)(?:-(\d+))?", value))


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
    """The exit code of a job that has ended, 75 where it was cut off; None where SLURM has forgotten it."""
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
        return 75
    number, _, signal = code[1].partition(":")
    return 1 if int(signal or 0) else int(number)
