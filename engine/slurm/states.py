"""The state of each task of a fleet: in the queue, else by what it has left in its directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.runtime.limits.lock import owner_of
from engine.runtime.report.reading import read_object, read_only
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
        summary = read_object(folder / "summary.json") or {}
        state, done = _rest(folder, summary)
        if not done and owner_of(folder) is not None:
            state = "running"
        state = waiting.get(number, state)
        now = (read_object(folder / "status.json") or {}) if state == "running" else {}
        files = now.get("files") or summary.get("files") or {}
        records = (summary.get("totals") or {}).get("records", 0)
        chunks = now.get("chunks") or {}
        records += chunks.get("indexed", 0) - chunks.get("deleted", 0)
        yield Task(number, state, done, max(0, records), files.get("failed", 0) + files.get("partial", 0))


def _rest(folder: Path, summary: Mapping[str, Any]) -> tuple[str, bool]:
    """What a task that is not in the queue came to, and whether that is all there is to do."""
    if not (folder / "ledger.sqlite").is_file():
        return "not begun", False
    if not summary or summary.get("run") != _starts(folder):
        # Killed, so that its last start has left no summary, whatever an earlier one has left.
        return "cut off", False
    return str(summary.get("status")), summary.get("exit_code") in DONE


def _starts(folder: Path) -> int | None:
    """How often the task has begun; None where its ledger can't be read now."""
    try:
        with closing(read_only(folder / "ledger.sqlite")) as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'run'").fetchone()
            return int(row[0]) if row else None
    except (sqlite3.DatabaseError, OSError, ValueError):
        return None
