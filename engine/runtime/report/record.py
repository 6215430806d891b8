"""The last invocation of a run, read from its directory for a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UsageError
from engine.runtime.limits.lock import owner_of
from engine.runtime.report.run_directory import shard_folders
from engine.runtime.report.series import SERIES_FILE, Sample
from engine.runtime.report.summary import SUMMARY_FILE, Status, Summary, read_status, read_summary


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The last invocation in a run directory: its number, its `summary` (None: it is `running`, or was
    killed; then `status` is what it said last), its samples, the bytes that could be in flight, and when it
    began, in seconds since 1970. `failures` are counted by reason, `skipped` files by rule."""

    run_dir: str
    run: int | None
    running: bool
    summary: Summary | None
    samples: Sequence[Sample] = ()
    buffer: int | None = None
    began: float | None = None
    status: Status | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


def read_run(folder: Path) -> RunRecord:
    """The record of a run directory. Raises `UsageError` for what is none, or holds nothing readable yet."""
    if not (folder / "ledger.sqlite").is_file():
        if shards := [path for path in shard_folders(folder) if (path / "ledger.sqlite").is_file()]:
            many = f"it has {len(shards)} shards; name one of them, such as {shards[0]}"
            raise UsageError(f"--run-dir {folder}: {many}")
        what = "no ledger.sqlite there" if folder.is_dir() else "no such directory"
        raise UsageError(f"--run-dir {folder}: {what}; name the directory of a run")
    summary, running = read_summary(folder), owner_of(folder) is not None
    failures = _counted(folder / "failures.jsonl", "stage", "error_type")
    skipped = _counted(folder / "skipped.jsonl", "rule")
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
        return RunRecord(str(folder), summary.run, running, summary, failures=failures, skipped=skipped)
    except (OSError, AttributeError, LookupError, TypeError, ValueError):
        raise UsageError(f"{path}: not the series of a run of this engine") from None
    if summary is not None and (running or summary.run != run):
        # It is of an earlier invocation.
        summary = None
    status = read_status(folder) if summary is None else None
    place = (str(folder), run, running, summary, samples, buffer, began)
    return RunRecord(*place, status, failures, skipped)


def _counted(path: Path, *names: str) -> dict[str, int]:
    """How many lines have each value of these fields; a line that is not whole yet is passed over."""
    counts: Counter[str] = Counter()
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with suppress(ValueError, TypeError, KeyError):
                found = json.loads(line)
                counts[": ".join(str(found[name]) for name in names)] += 1
    return dict(counts)
