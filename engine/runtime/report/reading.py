"""Reads the ledger of a run that may be writing it, and leaves no file behind."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from engine.runtime.ledger import tables

#: Where SQLite's file header says how it is written, and what stands there for a write-ahead log
#: (sqlite.org/fileformat.html, 1.3).
WRITE_VERSION, WAL = 18, 2


def read_only(path: Path) -> sqlite3.Connection:
    """The ledger, for reading alone; no file is made beside it. Raises `sqlite3.DatabaseError`.

    A ledger without a running writer has no write-ahead log, and SQLite would make one for a reader: it is
    opened as an immutable file. A reader of a write-ahead log doesn't block the writer. A ledger of an older
    engine is read as one of today's.
    """
    resting = uses_log(path) and not path.with_name(path.name + "-wal").exists()
    options = "mode=ro&immutable=1" if resting else "mode=ro"
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)
    try:
        tables.view(db)
    except BaseException:
        db.close()
        raise
    return db


def uses_log(path: Path) -> bool:
    """Whether the ledger is written through a log, so that its readers never hold up its writer."""
    with open(path, "rb") as file:
        return file.read(WRITE_VERSION + 1)[WRITE_VERSION:] == bytes([WAL])
