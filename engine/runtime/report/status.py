"""Where a run has got to, read from its directory while it runs and afterwards."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UsageError
from engine.runtime.ledger.segments import ID_BYTES
from engine.runtime.limits.lock import Owner, owner_of
from engine.runtime.report.reading import read_only, uses_log
from engine.runtime.report.run_directory import read_command, shard_folders
from engine.runtime.report.summary import (
    STATUS_FILE,
    SUMMARY_FILE,
    Status,
    Summary,
    read_status,
    read_summary,
)

#: Seconds that a reader waits for the ledger of a run that writes it without a log.
BUSY_S = 1.0


@dataclass(slots=True)
class Failures:
    """Failures of one reason; `example` is one of them, with its source, page and message."""

    stage: str
    error_type: str
    count: int
    example: dict[str, object]


@dataclass(slots=True)
class RunState:
    """One run directory; `files` and `records` are from its ledger.

    `status` is what the run said last, if it is running or was killed; the ages are how long ago that and the
    summary were written. `command` is the last run's, where a command line began it. `ledger_read` is False
    where reading would block the run, as on a network file system.
    """

    run_dir: str
    owner: Owner | None
    status: Status | None
    summary: Summary | None
    summary_age_s: float | None = None
    status_age_s: float | None = None
    command: str | None = None
    adapter: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    records: int = 0
    failures: list[Failures] = field(default_factory=list)
    ledger_read: bool = True

    @property
    def killed(self) -> bool:
        """Whether the last run has ended without a word: one that ends by itself removes its status."""
        return self.owner is None and self.status is not None


def find_runs(folder: Path) -> list[Path]:
    """The folder where it is a run directory; else those in it and in its `runs/`, the last used first."""
    if _ledgers(folder):
        return [folder]
    found = [path for path in (*folder.glob("*/"), *folder.glob("runs/*/")) if _ledgers(path)]
    return sorted(found, key=_last_used, reverse=True)


def _last_used(run_dir: Path) -> float:
    names = (STATUS_FILE, SUMMARY_FILE, "ledger.sqlite")
    files = [folder / name for folder in _ledgers(run_dir) for name in names]
    return max((os.stat(path).st_mtime for path in files if os.path.isfile(path)), default=0.0)


def _ledgers(folder: Path) -> list[Path]:
    """The run directory itself or its shards, as far as there is a ledger; none in what can't be read."""
    # `Path.is_file` would raise for a folder that may not be searched.
    return [path for path in (folder, *shard_folders(folder)) if os.path.isfile(path / "ledger.sqlite")]


def read_states(folder: Path, ledgers: bool = True) -> list[RunState]:
    """Where a run directory, or each of its shards, has got to; without `ledgers` by their other files alone.

    Raises `UsageError` where the folder is no run directory, or its ledger can't be read.
    """
    found = _ledgers(folder)
    if not found:
        raise UsageError(
            f"--run-dir {folder}: {'no ledger.sqlite there' if folder.is_dir() else 'no such directory'};"
            " name the directory of a run"
        )
    return [_state_of(path, ledgers) for path in found]


def _state_of(run_dir: Path, ledger: bool) -> RunState:
    """Of one run directory."""
    state = RunState(str(run_dir), owner_of(run_dir), read_status(run_dir), read_summary(run_dir))
    state.command = read_command(run_dir)
    state.summary_age_s = _age_s(run_dir / SUMMARY_FILE)
    state.status_age_s = _age_s(run_dir / STATUS_FILE)
    if ledger:
        _read_ledger(run_dir / "ledger.sqlite", state)
    else:
        state.ledger_read = False
    return state


def _age_s(path: Path) -> float | None:
    with suppress(OSError):
        return round(time.time() - path.stat().st_mtime, 1)
    return None


def merged(states: list[RunState]) -> tuple[dict[str, int], int, list[Failures]]:
    """Files by state, records, and failures of all shards together."""
    files: dict[str, int] = {}
    failures: dict[tuple[str, str], Failures] = {}
    for each in states:
        for state, count in each.files.items():
            files[state] = files.get(state, 0) + count
        for one in each.failures:
            known = failures.setdefault(
                (one.stage, one.error_type), Failures(one.stage, one.error_type, 0, one.example)
            )
            known.count += one.count
    most = sorted(failures.values(), key=lambda one: (-one.count, one.stage, one.error_type))
    return files, sum(each.records for each in states), most


def _read_ledger(path: Path, state: RunState) -> None:
    try:
        state.ledger_read = state.owner is None or uses_log(path)
        if not state.ledger_read:
            return
        try:
            _query(path, state)
        except sqlite3.DatabaseError:
            # A run began or ended between the look for its log and the reading.
            _query(path, state)
    except (sqlite3.DatabaseError, OSError) as error:
        raise UsageError(f"{path}: not a readable ledger ({error})") from None


def _query(path: Path, state: RunState) -> None:
    with closing(read_only(path)) as db:
        db.execute(f"PRAGMA busy_timeout = {int(BUSY_S * 1000)}")
        row = db.execute("SELECT value FROM meta WHERE key = 'adapter'").fetchone()
        state.adapter = row[0] if row else None
        state.files = dict(db.execute("SELECT state, count(*) FROM items GROUP BY state ORDER BY state"))
        (size,) = db.execute("SELECT coalesce(sum(length(ids)), 0) FROM segments").fetchone()
        state.records = size // ID_BYTES
        # The columns beside min() come from the row that has the least.
        rows = db.execute(
            "SELECT stage, error_type, count(*), min(item), uri, page, message FROM failures"
            " JOIN items ON items.id = item GROUP BY stage, error_type ORDER BY count(*) DESC, 1, 2"
        )
        state.failures = [
            Failures(stage, error_type, count, {"source": source, "page": page, "message": message})
            for stage, error_type, count, _, source, page, message in rows
        ]
