"""Digests of model files, remembered so that a second start doesn't read them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from engine.models.cache import recall, remember

#: Bytes from which a file's digest is remembered; smaller files are read again.
REMEMBER_FROM = 1_000_000


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
