"""The run directory: made and locked, with its log, lists and traces."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from engine.errors import DISK_FULL, UsageError
from engine.runtime.limits.lock import RunLock
from engine.runtime.limits.stop import RunStoppedError
from engine.sources import outputs

#: The file with the command line of a run.
COMMAND_FILE = "command"


def claim(
    run_dir: Path,
    say: Callable[[str], object] = lambda _: None,
    check: Callable[[], object] = lambda: None,
) -> RunLock:
    """Make the directory, mark it as the engine's own, and lock it; `say` and `check` are as for the lock.

    Raises `UsageError`; `RunStoppedError` where the disk is full.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        outputs.mark(run_dir)
        return RunLock(run_dir, say, check)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in DISK_FULL:
            raise RunStoppedError(f"{run_dir}: {reason}") from None
        raise UsageError(f"--run-dir {run_dir}: {reason}; name a directory that can be written") from None


class _LogFile(logging.FileHandler):
    """The log is less important than the run: lines that can't be written are dropped.

    A full disk is reported where the ledger and the summary are written.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Instead of a traceback on standard error."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def log_to(run_dir: Path, level: str) -> Callable[[], None]:
    """Send the engine's log to `run.log`, with times in UTC; the result ends that."""
    handler = _LogFile(run_dir / "run.log", encoding="utf-8", errors="backslashreplace")
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("engine")
    logger.setLevel(level.upper())
    logger.propagate = False
    logger.addHandler(handler)

    def end() -> None:
        logger.removeHandler(handler)
        handler.close()

    return end


@contextmanager
def open_skipped(run_dir: Path) -> Iterator[TextIO]:
    """`skipped.jsonl`, emptied. Errors at its end are ignored: flushing it raised them before."""
    file = open(run_dir / "skipped.jsonl", "w", encoding="utf-8")  # noqa: SIM115 - closed below
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


@contextmanager
def open_trace(name: str | None) -> Iterator[TextIO | None]:
    """The file for a trace of the run's memory. Raises `UsageError` where it can't be written."""
    if name is None:
        yield None
        return
    try:
        file = open(name, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"--memory-trace {name}: {(error.strerror or str(error)).lower()}") from None
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> int:
    """Replace a file by one JSON object a line, streamed; returns their number."""
    temporary = path.with_name(path.name + ".new")
    count = 0
    with open(temporary, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return count


def write_command(run_dir: Path, command: str) -> None:
    """Replace the file with the command line that began the run. Raises `OSError`."""
    (run_dir / COMMAND_FILE).write_text(f"{command}\n", encoding="utf-8", errors="surrogateescape")


def read_command(run_dir: Path) -> str | None:
    """The command line of the last run; None for one that was begun in another way, or by an older engine."""
    try:
        return (run_dir / COMMAND_FILE).read_text(encoding="utf-8", errors="backslashreplace").strip()
    except OSError:
        return None


def remove_status(run_dir: Path) -> None:
    """Delete `status.json` at the end of a run; it exists only while one runs."""
    (run_dir / "status.json").unlink(missing_ok=True)


def shard_folders(folder: Path) -> list[Path]:
    """The shards' own folders below a run directory, `shards/I-of-N`, in order; none where they can't be
    listed."""
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder / "shards")
    found = [folder / "shards" / name for name in names if outputs.SHARD.fullmatch(name)]
    return sorted(found, key=lambda path: shard_of_folder(path)[::-1])


def shard_of_folder(folder: Path) -> tuple[int, int]:
    """The shard (I, N) whose folder that is; (0, 1) for a run directory without shards."""
    name = outputs.SHARD.fullmatch(folder.name) if folder.parent.name == "shards" else None
    return (int(name[1]), int(name[2])) if name else (0, 1)
