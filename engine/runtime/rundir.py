"""The run directory: made, locked, logged to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from engine.errors import UsageError
from engine.runtime.lock import RunLock


def claim(run_dir: Path) -> RunLock:
    """Make the directory and lock it. Raises `UsageError`."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return RunLock(run_dir)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--run-dir {run_dir}: {reason}; name a directory that can be written") from None


def log_to(run_dir: Path, level: str) -> Callable[[], None]:
    """Send the engine's log to `run.log`, with times in UTC; the result ends that."""
    handler = logging.FileHandler(run_dir / "run.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("engine")
    logger.setLevel(level.upper())
    logger.propagate = False
    logger.addHandler(handler)

    def end() -> None:
        logger.removeHandler(handler)
        handler.close()

    return end
