"""Lists a corpus once into a manifest; goes on where an earlier listing was killed."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from engine.fleet.manifest import Header, Writer
from engine.parsers import type_by_name
from engine.records import source_of
from engine.stages.discover import Discovery, Found, FoundFile

#: Seconds between two lines that say how far the listing has come.
TELL_S = 10.0


def list_corpus(path: Path, header: Header, say: Callable[[str], None]) -> bool:
    """Make the manifest at `path`; False where something could not be listed, which it names then.

    What an interrupted listing has found is kept, and not looked at again. Raises `OSError` where the
    manifest can't be written, and `UsageError`.
    """
    told = time.monotonic()
    with closing(Writer(path, header)) as writer, closing(_Known()) as known:
        if writer.lines:
            say(f"listing: going on after {writer.lines:,} paths")
            for line in writer.kept():
                known.add(line.found)
        going_on = writer.lines > 0
        discovery = Discovery(
            header.inputs,
            header.files_from,
            header.include,
            header.exclude,
            header.hidden,
            known=known.has_path if going_on else None,
        )
        complete = True
        for found in discovery:
            # Another listing may come in another order, so the paths themselves have to tell.
            if going_on and known.has(found):
                continue
            writer.add(found, type_by_name(found.path) if isinstance(found, FoundFile) else "")
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                say(f"listing: {writer.lines:,} paths so far")
        complete = discovery.complete
        writer.finish()
        return complete


class _Known:
    """The paths of an earlier listing, on disk, so that memory stays flat."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")  # a temporary file of its own, gone with the connection
        self._db.execute("CREATE TABLE known (path BLOB PRIMARY KEY) WITHOUT ROWID")

    def add(self, found: Found) -> None:
        self._db.execute("INSERT OR IGNORE INTO known VALUES (?)", (_key(found),))

    def has(self, found: Found) -> bool:
        return self._has(_key(found))

    def has_path(self, path: str) -> bool:
        """Whether it is there, as a file or as what was left out."""
        return self._has(_digest(os.fsencode(path))) or self._has(_digest(source_of(path).encode()))

    def close(self) -> None:
        self._db.close()

    def _has(self, key: bytes) -> bool:
        return self._db.execute("SELECT 1 FROM known WHERE path = ?", (key,)).fetchone() is not None


def _key(found: Found) -> bytes:
    return _digest(os.fsencode(found.path) if isinstance(found, FoundFile) else found.source.encode())


def _digest(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=16).digest()
