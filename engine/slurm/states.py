"""The state of each task of a fleet: in the queue, else by what it has left in its directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engine.runtime.limits.lock import owner_of
from engine.runtime.report.reading import read_only
from engine.runtime.report.summary import Status, Summary, read_status, read_summary
from engine.slurm.fleet import Fleet

#: Exit codes of a task after which it is done.
DONE = (0, 3)


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its state, its records that the database has acknowledged, and files of it that failed."""

    number: int
    state: str
    done: bool = False
    records: int = 0
    failures: int = 0


def task_states(fleet: Fleet, queue: Mapping[str, str]) -> Iterator[Task]:
    """Each task; `queue` is what `client.queued` tells of the fleet's jobs."""
    places = {name.rpartition("_")[2]: state.lower() for name, state in queue.items() if "_" in name}
    waiting = {shard: places[str(place)] for place, shard in enumerate(fleet.begun) if str(place) in places}
    for number in range(fleet.tasks):
        folder = fleet.shard(number)
        summary = read_summary(folder) or Summary()
        state, done = _rest(folder, summary)
        if not done and owner_of(folder) is not None:
            state = "running"
        state = waiting.get(number, state)
        now = (read_status(folder) if state == "running" else None) or Status()
        files = (now if now.pid else summary).files
        records = summary.totals.records + now.chunks.indexed - now.chunks.deleted
        yield Task(number, state, done, max(0, records), files.failed + files.partial)


def _rest(folder: Path, summary: Summary) -> tuple[str, bool]:
    """What a task that is not in the queue came to, and whether that is all there is to do."""
    if not (folder / "ledger.sqlite").is_file():
        return "not begun", False
    if summary.run is None or summary.run != _starts(folder):
        # Killed, so that its last start has left no summary, whatever an earlier one has left.
        return "cut off", False
    return summary.status, summary.exit_code in DONE


def _starts(folder: Path) -> int | None:
    """How often the task has begun; None where its ledger can't be read now."""
    try:
        with closing(read_only(folder / "ledger.sqlite")) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
            return int(row[0]) if row else None
    except (sqlite3.DatabaseError, OSError, ValueError):
        return None
