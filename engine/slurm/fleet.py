"""The record of what was submitted (`DIR/slurm.json`), and submitting it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.machine.batch_job import SlurmError, call, settings
from engine.runtime.report.summary import read_summary, write_summary
from engine.slurm import script
from engine.slurm.script import ORDER, Place, Requested

#: The record, and the two scripts beside it.
RECORD, TASKS, FINISH = "slurm.json", "job.sbatch", "finish.sbatch"


@dataclass(frozen=True)
class Fleet:
    """A fleet as requested: `arguments` are those of `engine.run`, `folder` is the working folder then.

    `grace`: the longest drain of each task in seconds, where the user gave none. `order`: the shard of each
    task of the array. `job` is the id of the last array (None: none was needed), `finish` that of its
    finishing job, `submitted` the time in seconds since 1970.
    """

    run_dir: Path
    folder: str
    adapter: str
    tasks: int
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    prune: bool = False
    grace: float | None = None
    order: tuple[int, ...] = ()
    requested: Requested = field(default_factory=Requested)
    job: str | None = None
    finish: str | None = None
    submitted: float = 0.0

    @property
    def jobs(self) -> list[str]:
        """The jobs that may be in the queue, the finishing one first."""
        return [job for job in (self.finish, self.job) if job is not None]

    def shard(self, number: int) -> Path:
        """The directory of one task."""
        return self.run_dir / "shards" / f"{number}-of-{self.tasks}"

    @property
    def begun(self) -> Sequence[int]:
        """The shards in the order in which they are begun, by their tasks' numbers in the array."""
        return self.order or range(self.tasks)

    def log_of(self, number: int) -> Path:
        """What the task of a shard prints."""
        return self.run_dir / "logs" / f"task-{self.begun.index(number)}.log"

    def log_of_finish(self) -> Path:
        """What the finishing job prints."""
        return self.run_dir / "logs" / f"finish-{self.finish}.log"

    def scripts(self) -> dict[str, str]:
        """The two scripts by their names."""
        place = Place(self.run_dir, Path(self.folder))
        grace = [] if self.grace is None else ["--grace", f"{self.grace:g}"]
        return {
            TASKS: script.tasks_script(place, self.tasks, [*self.arguments, *grace], self.requested),
            FINISH: script.finish_script(place, self.adapter, self.prune, self.requested),
        }

    def save(self) -> None:
        """Replace the record. Raises `UsageError` where the directory can't be written."""
        content = {name: value for name, value in asdict(self).items() if name != "run_dir"}
        temporary = self.run_dir / f"{RECORD}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.run_dir / RECORD)
        except OSError as error:
            raise unwritable(self.run_dir, error) from None


def unwritable(run_dir: Path, error: OSError) -> UsageError:
    """The error for a run directory that can't be written."""
    return UsageError(f"--run-dir {run_dir}: {(error.strerror or str(error)).lower()}")


def load(run_dir: Path) -> Fleet | None:
    """The fleet of a run directory; None where none was submitted. Raises `UsageError` for another's file."""
    try:
        content: dict[str, Any] = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))
        requested = content.pop("requested")
        requested["more"] = tuple(requested["more"])
        content |= {name: tuple(content.get(name, ())) for name in ("arguments", "inputs", "order")}
        return Fleet(run_dir=run_dir, requested=Requested(**requested), **content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{run_dir / RECORD}: can't be read ({error}); name another --run-dir") from None


def check_same(known: Fleet, wanted: Fleet) -> None:
    """Raises `UsageError` where the run directory has a fleet of another kind."""
    for what, before, now in (
        ("--tasks", known.tasks, wanted.tasks),
        ("--adapter", known.adapter, wanted.adapter),
        ("the inputs", shlex.join(known.inputs), shlex.join(wanted.inputs)),
        ("the options", shlex.join(known.arguments), shlex.join(wanted.arguments)),
    ):
        if before != now:
            raise UsageError(
                f"--run-dir {known.run_dir}: its fleet was submitted with {what} {before or 'none'}, not"
                f" {now or 'none'}; use the same options as before, or name another --run-dir"
            )


def submit(fleet: Fleet, shards: Sequence[int], now: float) -> Fleet:
    """Submit the tasks of these shards and the finishing job after them; returns the fleet with their ids.

    Raises `SlurmError` where SLURM refuses; nothing of it is left in the queue then.
    """
    most = int(settings().get("MaxArraySize", "1001"))
    wanted = set(shards)
    tasks = [place for place, shard in enumerate(fleet.begun) if shard in wanted]
    if tasks and max(tasks) >= most:
        raise SlurmError(
            f"--tasks {fleet.tasks}: the arrays of this cluster have at most {most} tasks (MaxArraySize)"
        )
    try:
        (fleet.run_dir / "logs").mkdir(parents=True, exist_ok=True)
        for name, text in fleet.scripts().items():
            # Names of files need not be UTF-8, and stand in a script as they are.
            (fleet.run_dir / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        (fleet.run_dir / ORDER).write_text("".join(f"{shard}\n" for shard in fleet.begun), encoding="utf-8")
        for shard in shards:
            _begin_again(fleet.shard(shard))
    except OSError as error:
        raise unwritable(fleet.run_dir, error) from None
    job, after = None, []
    if tasks:
        limit = f"%{fleet.requested.concurrent}" if fleet.requested.concurrent else ""
        job = _sbatch(f"--array={script.ranges(tasks)}{limit}", str(fleet.run_dir / TASKS))
        after = [f"--dependency=afterany:{job}"]
    # Known before anything else can go wrong, so that `cancel` finds it.
    fleet = replace(fleet, job=job, finish=None, submitted=now)
    fleet.save()
    try:
        fleet = replace(fleet, finish=_sbatch(*after, str(fleet.run_dir / FINISH)))
    except SlurmError:
        if job is not None:
            call("scancel", job)
        raise
    fleet.save()
    return fleet


def _begin_again(shard: Path) -> None:
    """Mark the summary of an earlier start as such: a task that never starts now must not count as done."""
    if (summary := read_summary(shard)) is not None:
        write_summary(shard, replace(summary, run=0))


def _sbatch(*words: str) -> str:
    """Submit; the job's id, without the cluster's name that may follow it."""
    return call("sbatch", "--parsable", *words).strip().partition(";")[0]
