"""Digests of model files, remembered so that a second start doesn't read them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

#: Bytes from which a file's digest is remembered; smaller files are read again.
REMEMBER_FROM = 1_000_000


def cache_folder() -> Path:
    """Where the engine keeps what it can make again: `$VECTOR_ENGINE_CACHE`, else in the user's cache."""
    if own := os.environ.get("VECTOR_ENGINE_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vector-streaming-engine"


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
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(value)
            Path(temporary).replace(target)
        except OSError:
            Path(temporary).unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file, remembered by real path, size and time of change."""
    path = path.resolve()
    stat = path.stat()
    key = hashlib.sha256(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    name = f"digests/{key.hexdigest()}"
    if stat.st_size >= REMEMBER_FROM and (known := recall(name)) and len(known) == 64:
        return known
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if stat.st_size >= REMEMBER_FROM:
        remember(name, digest)
    return digest


def model_digest(files: Mapping[str, Path], settings: str = "") -> str:
    """SHA-256 (hex) over names and contents of a model's files, and over settings that are in no file.

    `files` are keyed by their names inside the model: where the model lies doesn't matter.
    """
    lines = [f"{name}\0{file_digest(files[name])}\n" for name in sorted(files)]
    return hashlib.sha256(("".join(lines) + settings).encode()).hexdigest()
