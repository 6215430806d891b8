"""Reading a file in blocks, each of them a sign of progress."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

#: Called whenever a file came along a little, so that slow is not taken for stuck. Must not raise.
Progress: TypeAlias = Callable[[], None]

#: Bytes read at a time.
BLOCK_BYTES = 2**20


def no_progress() -> None:
    """For callers whom nobody watches."""


def hash_file(path: str, progress: Progress = no_progress) -> str:
    """SHA-256 (hex) of a file's bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            progress()
    return digest.hexdigest()
