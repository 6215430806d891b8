"""A temporary SQLite file for sets of ids that may outgrow the memory."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from pathlib import Path

#: KiB of the file that stay in memory.
CACHE_KIB = 32 * 1024

_ID = re.compile(r"[0-9a-f]{32}")


def scratch(folder: Path, tables: str) -> sqlite3.Connection:
    """An empty database with these tables in `folder`; it has no name there and is gone with the process.

    Raises `OSError` where the folder can't be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=".verify-", dir=folder)
    os.close(descriptor)
    try:
        db = sqlite3.connect(name, isolation_level=None)
        # Nothing of it is ever needed again, so that neither a journal nor a flush is.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        db.executescript(tables)
    finally:
        os.unlink(name)
    db.execute("BEGIN")
    return db


def packed(record: object) -> bytes | None:
    """A record id as the ledger packs it; None for what this engine never made."""
    return bytes.fromhex(record) if isinstance(record, str) and _ID.fullmatch(record) else None
