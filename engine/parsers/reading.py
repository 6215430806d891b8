"""What a parser reads: an opened item, in blocks, each of them a sign of progress."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Protocol

#: Bytes read at a time.
BLOCK_BYTES = 2**20


class Progress(Protocol):
    """Called whenever reading came along a little, so that slow is not taken for stuck. Must not raise."""

    def __call__(self, share: float | None = None) -> None:
        """`share` of the item has been read, from 0 to 1, where the format can tell."""


class Opened(Protocol):
    """An item's content while it is read, as `engine.sources` opens it."""

    @property
    def path(self) -> str:
        """A local file with the content, for libraries that read no streams. Raises `OSError`."""

    def stream(self) -> BinaryIO:
        """A new seekable binary stream at its start; the caller closes it. Raises `OSError`."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine as an opened item."""

    path: str

    def stream(self) -> BinaryIO:
        """The file, open for reading."""
        return open(self.path, "rb")


def no_progress(share: float | None = None) -> None:
    """For callers whom nobody watches."""


def hash_content(opened: Opened, progress: Progress = no_progress) -> str:
    """SHA-256 (hex) of an item's bytes. Raises `OSError`."""
    digest = hashlib.sha256()
    with opened.stream() as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            progress()
    return digest.hexdigest()
