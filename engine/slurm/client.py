"""SLURM's commands. Every call has a deadline, for they wait for ever where the controller is gone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from engine.errors import UsageError

#: Seconds that one call of a client may take.
DEADLINE_S = 60.0


class SlurmError(UsageError):
    """SLURM refuses, doesn't answer, or isn't there; the text says what it said."""


def call(*command: str, deadline_s: float | None = DEADLINE_S, given: str | None = None) -> str:
    """What a client prints; `given` is its standard input. Raises `SlurmError`."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=deadline_s, check=False
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; run this where SLURM's commands are installed") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {deadline_s:g} s; is the controller up?") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {re.sub(f'^{command[0]}: (error: )?', '', said)[:300]}")
    return done.stdout


def setting(name: str) -> str | None:
    """A line of the cluster's configuration, or None."""
    found = re.search(rf"^{name}\s*=\s*(.*)$", call("scontrol", "show", "config"), re.MULTILINE)
    return found[1].strip() if found else None


def largest_array() -> int:
    """Tasks that one array may have."""
    value = setting("MaxArraySize") or ""
    return int(value) if value.isdigit() else 1001


def requeues(exit_code: int) -> bool:
    """Whether the cluster puts a job that ends so back into the queue by itself."""
    value = setting("RequeueExit") or ""
    return any(int(a) <= exit_code <= int(b or a) for a, b in re.findall(r"(\d+)(?:-(\d+))?", value))


def queued(jobs: Sequence[str]) -> dict[str, str]:
    """The state of each task that is in the queue, by `JOB_TASK` (or `JOB` for a job without tasks)."""
    if not jobs:
        return {}
    try:
        lines = call("squeue", "-h", "-r", "-j", ",".join(jobs), "-o", "%i %T").splitlines()
    except SlurmError as error:
        if "Invalid job id" in str(error):  # all of them are gone for longer than SLURM remembers
            return {}
        raise
    return dict(line.split(maxsplit=1) for line in lines)
