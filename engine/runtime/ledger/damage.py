"""What a damaged ledger shows before it is believed."""

from __future__ import annotations

import sqlite3
from contextlib import closing


def decoded(text: bytes) -> str:
    """Text as it is stored, with U+FFFD for what can't be read."""
    return text.decode("utf-8", "replace")


def damage_of(db: sqlite3.Connection, tables: str) -> str | None:
    """What is wrong with the tables, made by the script `tables`, or their pages; None where SQLite can tell
    nothing.

    Reads the whole ledger. A run would meet the damage in its middle, or take it for what was acknowledged.
    """
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        return str(verdict).partition("\n")[2] or str(verdict)
    with closing(sqlite3.connect(":memory:")) as sound:
        sound.executescript(tables)
        expected = _columns(sound)
    if _columns(db) != expected:
        return "its tables have other columns"
    for table, columns in expected.items():
        # SQLite stores any type in any column, so a bit can turn a number into a text.
        mistyped = " OR ".join(f"typeof({name}) NOT IN ('{kind.lower()}', 'null')" for name, kind in columns)
        if db.execute(f"SELECT 1 FROM {table} WHERE {mistyped} LIMIT 1").fetchone():
            return f"a value of the wrong type in {table}"
    return None


def _columns(db: sqlite3.Connection) -> dict[str, list[tuple[str, str]]]:
    """Name and type of each column of each table."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    return {
        table: [(name, kind) for _, name, kind, *_ in db.execute(f"PRAGMA table_info('{table}')")]
        for (table,) in tables
    }
