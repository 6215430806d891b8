"""The scripts of a fleet's tasks and of its finishing job, to be read, edited and submitted by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Seconds before a job's time limit at which SLURM sends its task a signal to drain.
SIGNAL_BEFORE_S = 90


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the jobs ask SLURM for; None leaves the cluster's default. `more`: further options of sbatch."""

    concurrent: int | None = None
    gpus_per_task: int | None = None
    cpus_per_task: int | None = None
    time: str | None = None
    partition: str | None = None
    mem: str | None = None
    more: tuple[str, ...] = ()

    def lines(self, with_gpus: bool) -> Iterable[str]:
        """Options of sbatch."""
        asked: Mapping[str, object] = {
            "gres": f"gpu:{self.gpus_per_task}" if self.gpus_per_task and with_gpus else None,
            "cpus-per-task": self.cpus_per_task,
            "time": self.time,
            "partition": self.partition,
            "mem": self.mem,
        }
        yield from (f"--{name}={value}" for name, value in asked.items() if value is not None)
        yield from self.more


def tasks_script(run_dir: Path, tasks: int, arguments: Iterable[str], wishes: Wishes) -> str:
    """The script of all tasks. `--array` stands on sbatch's command line, so that it serves for some, too."""
    command = [
        sys.executable,
        "-m",
        "engine.run",
        *arguments,
        "--run-dir",
        str(run_dir),
        "--fleet",
        "--quiet",
    ]
    options = [
        "--job-name=engine",
        f"--output={run_dir}/logs/task-%a.log",
        "--open-mode=append",
        f"--chdir={Path.cwd()}",
        "--requeue",
        f"--signal=B:USR1@{SIGNAL_BEFORE_S}",
        *wishes.lines(with_gpus=True),
    ]
    words = f'{shlex.join(command)} --shard "$SLURM_ARRAY_TASK_ID/{tasks}"'
    return _script(
        options,
        f"""\
# One task of {tasks}: a share of the files, with a ledger of its own in {run_dir}/shards.
# By hand: sbatch --array=0-{tasks - 1} {run_dir}/job.sbatch
# The engine takes the shell's place, since signals of the batch system reach the script alone. It drains on
# them and ends with exit code 75, on which the task is put back into the queue, and goes on from its ledger.
exec {words}
""",
    )


def finish_script(run_dir: Path, adapter: str, prune: bool, wishes: Wishes) -> str:
    """The script of the finishing job, which begins when all tasks have ended, however they did."""
    command = [sys.executable, "-m", "engine.merge", "--run-dir", str(run_dir), "--adapter", adapter]
    if prune:
        command.append("--prune")
    options = [
        "--job-name=engine-finish",
        f"--output={run_dir}/logs/finish.log",
        "--open-mode=append",
        f"--chdir={Path.cwd()}",
        # It ends with 75 where tasks are not done, which waiting doesn't help.
        "--no-requeue",
        *wishes.lines(with_gpus=False),
    ]
    return _script(
        options,
        f"""\
# One index out of what all tasks have written: gathered, proven, published; one summary.
# By hand: sbatch {run_dir}/finish.sbatch
exec {shlex.join(command)}
""",
    )


def _script(options: Iterable[str], body: str) -> str:
    lines = "".join(f"#SBATCH {option}\n" for option in options)
    return f"#!/bin/bash\n{lines}\n{body}"


def ranges(tasks: Iterable[int]) -> str:
    """Numbers of tasks as sbatch writes them: `0-3,7`."""
    found: list[list[int]] = []
    for task in sorted(tasks):
        if found and found[-1][1] == task - 1:
            found[-1][1] = task
        else:
            found.append([task, task])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)
