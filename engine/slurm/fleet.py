"""What was submitted, in `DIR/slurm.json`, and where each task stands."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.slurm import client, script
from engine.slurm.script import Wishes

#: The file, and the two scripts beside it.
RECORD, TASKS, FINISH = "slurm.json", "job.sbatch", "finish.sbatch"


@dataclass(frozen=True)
class Fleet:
    """A fleet as it was asked for; `jobs` are the ids of its arrays, `finish` that of the finishing job."""

    run_dir: Path
    adapter: str
    tasks: int
    arguments: tuple[str, ...]
    prune: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    jobs: tuple[str, ...] = ()
    finish: str | None = None

    def scripts(self) -> dict[str, str]:
        """The two scripts by their names."""
        return {
            TASKS: script.tasks_script(self.run_dir, self.tasks, self.arguments, self.wishes),
            FINISH: script.finish_script(self.run_dir, self.adapter, self.prune, self.wishes),
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
            raise UsageError(f"--run-dir {self.run_dir}: {(error.strerror or str(error)).lower()}") from None


def load(run_dir: Path) -> Fleet | None:
    """The fleet of a run directory; None where none was submitted."""
    try:
        content: dict[str, Any] = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))
        wishes = content.pop("wishes")
        wishes["more"] = tuple(wishes["more"])
        content |= {name: tuple(content[name]) for name in ("arguments", "jobs")}
        return Fleet(run_dir=run_dir, wishes=Wishes(**wishes), **content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{run_dir / RECORD}: can't be read ({error}); remove it to submit anew") from None


def check_same(known: Fleet, wanted: Fleet) -> None:
    """Raises `UsageError` where the run directory has a fleet of another kind."""
    for what, before, now in (
        ("--tasks", known.tasks, wanted.tasks),
        ("--adapter", known.adapter, wanted.adapter),
        ("inputs and options", " ".join(known.arguments), " ".join(wanted.arguments)),
    ):
        if before != now:
            raise UsageError(
                f"--run-dir {known.run_dir}: its fleet was submitted with {what} {before}, not {now};"
                " name another --run-dir, or the same as before"
            )


def submit(fleet: Fleet, tasks: Sequence[int]) -> Fleet:
    """Submit these tasks and the finishing job; returns the fleet with the jobs' ids, which is saved.

    Raises `SlurmError` where SLURM refuses; nothing is left in the queue then.
    """
    most = client.largest_array()
    if fleet.tasks > most:
        raise client.SlurmError(
            f"--tasks {fleet.tasks}: this cluster's arrays have at most {most} tasks (MaxArraySize)"
        )
    (fleet.run_dir / "logs").mkdir(parents=True, exist_ok=True)
    for name, text in fleet.scripts().items():
        (fleet.run_dir / name).write_text(text, encoding="utf-8")
    limit = f"%{fleet.wishes.concurrent}" if fleet.wishes.concurrent else ""
    array = f"--array={script.ranges(tasks)}{limit}"
    job = client.call("sbatch", "--parsable", array, str(fleet.run_dir / TASKS)).strip().partition(";")[0]
    # Known before anything else can go wrong, so that `cancel` finds it.
    fleet = replace(fleet, jobs=(*fleet.jobs, job), finish=None)
    fleet.save()
    try:
        after = f"--dependency=afterany:{job}"
        said = client.call("sbatch", "--parsable", after, str(fleet.run_dir / FINISH))
    except client.SlurmError:
        client.call("scancel", job)
        raise
    fleet = replace(fleet, finish=said.strip().partition(";")[0])
    fleet.save()
    return fleet


@dataclass(frozen=True, slots=True)
class Task:
    """One task: what it is doing, and its records and failures as its summary tells."""

    number: int
    state: str
    records: int = 0
    failures: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state.startswith("complete")


def standing(fleet: Fleet, queue: dict[str, str]) -> Iterator[Task]:
    """Each task, from the queue where it is there, else from what it left in its directory."""
    waiting = {name.rpartition("_")[2]: state for name, state in queue.items() if "_" in name}
    for number in range(fleet.tasks):
        summary = _summary(fleet.run_dir / "shards" / f"{number}-of-{fleet.tasks}")
        state = str(summary.get("status") or "not begun")
        if in_queue := waiting.get(str(number)):
            state = in_queue.lower()
        files = summary.get("files") or {}
        records = (summary.get("totals") or {}).get("records", 0)
        yield Task(number, state, records, files.get("failed", 0) + files.get("partial", 0))


def _summary(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"status": "cut off"} if (folder / "ledger.sqlite").exists() else {}
