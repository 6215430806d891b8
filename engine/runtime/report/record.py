"""The last invocation of a run, read from its directory for a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UsageError
from engine.runtime.limits.lock import owner_of
from engine.runtime.report.run_directory import shard_folders
from engine.runtime.report.series import SERIES_FILE, Sample
from engine.runtime.report.summary import SUMMARY_FILE, Summary, read_summary


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The last invocation in a run directory: its number, its `summary` (None: it is `running`, or was
    killed), its samples, the bytes that could be in flight, and when it began, in seconds since 1970."""

    run_dir: str
    run: int | None
    running: bool
    summary: Summary | None
    samples: Sequence[Sample] = ()
    buffer: int | None = None
    began: float | None = None


def read_run(folder: Path) -> RunRecord:
    """The record of a run directory. Raises `UsageError` for what is none, or holds nothing readable yet."""
    if not (folder / "ledger.sqlite").is_file():
        if shards := [path for path in shard_folders(folder) if (path / "ledger.sqlite").is_file()]:
            many = f"it has {len(shards)} shards; name one of them, such as {shards[0]}"
            raise UsageError(f"--run-dir {folder}: {many}")
        what = "no ledger.sqlite there" if folder.is_dir() else "no such directory"
        raise UsageError(f"--run-dir {folder}: {what}; name the directory of a run")
    summary, running = read_summary(folder), owner_of(folder) is not None
    path = folder / SERIES_FILE
    try:
        series = json.loads(path.read_text(encoding="utf-8"))
        places = [series["columns"].index(name) for name in Sample._fields]
        samples = [Sample(*(float(point[place]) for place in places)) for point in series["points"]]
        run, buffer, began = int(series["run"]), series["buffer"], float(series["began"])
        if not isinstance(buffer, int | None):
            raise TypeError(buffer)
    except FileNotFoundError:
        if summary is None:
            raise UsageError(
                f"--run-dir {folder}: neither {SERIES_FILE} nor a readable {SUMMARY_FILE} there; the run is"
                " just starting, or ended before it did anything"
            ) from None
        return RunRecord(str(folder), summary.run, running, summary)
    except (OSError, AttributeError, LookupError, TypeError, ValueError):
        raise UsageError(f"{path}: not the series of a run of this engine") from None
    if summary is not None and (running or summary.run != run):
        # It is of an earlier invocation.
        summary = None
    return RunRecord(str(folder), run, running, summary, samples, buffer, began)
