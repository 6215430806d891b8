"""The user's cache: files by name that the engine can make again. It may be deleted at any time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from engine.records import OUTPUT_MARKER, OUTPUT_NOTE

#: Seconds to wait for another process that makes the same file, and between two tries to lock.
PATIENCE_S, LOOK_S = 900.0, 0.1


def cache_folder() -> Path:
    """Where the engine keeps what it can make again: `$VECTOR_ENGINE_CACHE`, else in the user's cache."""
    if own := os.environ.get("VECTOR_ENGINE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vector-streaming-engine"


def make_folder(folder: Path) -> None:
    """Make a folder in the cache; a cache that is begun with it is marked as the engine's own. Raises
    `OSError`."""
    cache = cache_folder()
    if not cache.exists():
        cache.mkdir(parents=True, exist_ok=True)
        (cache / OUTPUT_MARKER).write_text(OUTPUT_NOTE, encoding="utf-8")
    folder.mkdir(parents=True, exist_ok=True)


def recall(name: str) -> str | None:
    """What `remember` stored under this name, or None."""
    try:
        return (cache_folder() / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def remember(name: str, value: str) -> None:
    """Store a value under a relative file name; a cache that can't be written is no error."""
    target = cache_folder() / name
    with contextlib.suppress(OSError):
        make_folder(target.parent)
        handle, temporary = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(value)
            Path(temporary).replace(target)
        except OSError:
            Path(temporary).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file; goes on without it after `PATIENCE_S`, or where files can't be locked."""
    with path.open("w") as stream:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOOK_S)
                continue
            except OSError:
                break
            break
        yield
