"""What a run has left of its last invocation, read back for a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.runtime.limits.lock import owner_of
from engine.runtime.report.run_directory import shard_folders
from engine.runtime.report.series import GROWING, LEVELS, SERIES_FILE


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The last invocation in a run directory: its number, `summary` where it came to an end (None: it is
    `running`, or was killed), its points in time by column, the bytes that could be on their way, and when it
    began, in seconds since 1970."""

    run_dir: str
    run: int | None
    running: bool
    summary: dict[str, Any] | None
    columns: dict[str, list[float]]
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
    summary, series = _json(folder / "summary.json"), _json(folder / SERIES_FILE)
    if summary is None and series is None:
        raise UsageError(
            f"--run-dir {folder}: neither {SERIES_FILE} nor summary.json there; the run is just beginning, or"
            " ended before it did anything"
        )
    running = owner_of(folder) is not None
    if series is None:
        return RunRecord(str(folder), (summary or {}).get("run"), running, summary, {})
    try:
        names, points = [str(name) for name in series["columns"]], series["points"]
        columns = {name: [float(point[place]) for point in points] for place, name in enumerate(names)}
        run, buffer, began = int(series["run"]), series["buffer"], float(series["began"])
        if not {*GROWING, *LEVELS} <= set(names) or not isinstance(buffer, int | None):
            raise ValueError(names)
    except (KeyError, IndexError, TypeError, ValueError):
        raise UsageError(f"{folder / SERIES_FILE}: not the series of a run of this engine") from None
    if summary is not None and (running or summary.get("run") != run):
        # It is of an earlier invocation.
        summary = None
    return RunRecord(str(folder), run, running, summary, columns, buffer, began)


def _json(path: Path) -> dict[str, Any] | None:
    """An object that the run wrote; None where there is none. Raises `UsageError` for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error})") from None
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: not what a run writes")
    return dict(value)
