"""The scripts of a fleet's tasks and of its finishing job, to be read, edited and submitted by hand."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Options of `engine.run` that make it one task of a fleet, and the command of the job after all tasks.
FLEET: tuple[str, ...] = ("--fleet",)
MERGE = "engine.merge"

#: The file in the run directory with a shard for each task of the array, a line each.
ORDER = "order"

#: Seconds before a job's time limit at which SLURM sends its task a signal to drain.
SIGNAL_BEFORE_S = 90


@dataclass(frozen=True, slots=True)
class Requested:
    """What the jobs ask SLURM for; None leaves the cluster's default. `more`: further options of sbatch."""

    concurrent: int | None = None
    gpus_per_task: int | None = None
    cpus_per_task: int | None = None
    time: str | None = None
    partition: str | None = None
    mem: str | None = None
    more: tuple[str, ...] = ()

    def options(self, tasks: bool) -> list[str]:
        """Options of sbatch for the tasks, or for the finishing job, which needs no GPU."""
        asked = {
            "gres": f"gpu:{self.gpus_per_task}" if self.gpus_per_task and tasks else None,
            "cpus-per-task": self.cpus_per_task,
            "time": self.time,
            "partition": self.partition,
            "mem": self.mem,
        }
        return [*(f"--{name}={value}" for name, value in asked.items() if value is not None), *self.more]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the fleet's files are, and the folder in which its commands run, to which paths are relative."""

    run_dir: Path
    folder: Path

    def output(self, name: str) -> str:
        """The option for a job's output, in `DIR/logs`; % stands for itself in the directory's name."""
        return f"--output={str(self.run_dir / 'logs').replace('%', '%%')}/{name}"


def tasks_script(place: Place, tasks: int, arguments: Iterable[str], requested: Requested) -> str:
    """The script of all tasks. `--array` stands on sbatch's command line, so that it serves for some, too."""
    run = ["engine.run", *arguments, "--run-dir", str(place.run_dir), *FLEET, "--quiet"]
    limit = f"%{requested.concurrent}" if requested.concurrent else ""
    by_hand = ["sbatch", f"--array=0-{tasks - 1}{limit}", str(place.run_dir / "job.sbatch")]
    options = [
        "--job-name=engine",
        place.output("task-%a.log"),
        "--open-mode=append",
        f"--chdir={place.folder}",
        "--requeue",
        f"--signal=B:USR1@{SIGNAL_BEFORE_S}",
        *requested.options(tasks=True),
    ]
    return _script(
        options,
        f"""\
# One task of {tasks}: a share of the files, with a ledger of its own below {place.run_dir / "shards"}
# SLURM begins the tasks of an array in the order of their numbers: {ORDER} has the shard
# of each, the ones with the most bytes first.
# By hand: {shlex.join(by_hand)}
# exec: the engine replaces the shell, because a batch system sends signals to the script only. On a signal
# it drains, ends with exit code 75, is put back into the queue, and continues from its ledger.
shard=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(place.run_dir / ORDER))})
exec {_python(run)} --shard "$shard/{tasks}"
""",
    )


def finish_script(place: Place, adapter: str, prune: bool, requested: Requested) -> str:
    """The script of the finishing job, which begins when all tasks have ended, however they did."""
    merge = [MERGE, "--run-dir", str(place.run_dir), "--adapter", adapter, *(["--prune"] if prune else [])]
    options = [
        "--job-name=engine-finish",
        place.output("finish-%j.log"),
        f"--chdir={place.folder}",
        # It ends with 75 where tasks are not done; running it again would not change that.
        "--no-requeue",
        *requested.options(tasks=False),
    ]
    return _script(
        options,
        f"""\
# Makes one index of what all tasks wrote (merge, verify, publish), and one summary.
# By hand: {shlex.join(["sbatch", str(place.run_dir / "finish.sbatch")])}
exec {_python(merge)}
""",
    )


def _python(words: Iterable[str]) -> str:
    return shlex.join([sys.executable, "-m", *words])


def _script(options: Iterable[str], body: str) -> str:
    lines = "".join(f"#SBATCH {shlex.quote(option)}\n" for option in options)
    return f"#!/bin/bash\n{lines}\n{body}"


def ranges(tasks: Iterable[int]) -> str:
    """Numbers of tasks as sbatch takes them: `0-3,7`."""
    found: list[list[int]] = []
    for task in sorted(tasks):
        if found and found[-1][1] == task - 1:
            found[-1][1] = task
        else:
            found.append([task, task])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)
