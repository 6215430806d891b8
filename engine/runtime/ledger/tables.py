"""The ledger's tables, how those of an older version are made into them, and what damage they show."""

from __future__ import annotations

import sqlite3
from contextlib import closing

#: Version of the tables below.
LEDGER_VERSION = 3

#: An item's `version` is its source's word for its content; its `revision` counts from 0 what was made of it.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
  id INTEGER PRIMARY KEY, uri TEXT NOT NULL UNIQUE, location BLOB NOT NULL, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, kind TEXT, media_type TEXT, generation TEXT NOT NULL DEFAULT '',
  content_hash TEXT, revision INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'pending',
  rule TEXT, attempts INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL, version TEXT NOT NULL DEFAULT '');
CREATE INDEX items_seen ON items (seen);
CREATE INDEX items_state ON items (state);
CREATE TABLE segments (
  item INTEGER NOT NULL, revision INTEGER NOT NULL, ordinal INTEGER NOT NULL, after INTEGER NOT NULL,
  page INTEGER, checkpoint TEXT NOT NULL, ids BLOB NOT NULL, complete INTEGER NOT NULL,
  PRIMARY KEY (item, revision, ordinal)) WITHOUT ROWID;
CREATE TABLE failures (
  item INTEGER NOT NULL, ordinal INTEGER NOT NULL, page INTEGER, stage TEXT NOT NULL,
  error_type TEXT NOT NULL, message TEXT NOT NULL, document TEXT, PRIMARY KEY (item, ordinal)) WITHOUT ROWID;
CREATE TABLE replaced (item INTEGER PRIMARY KEY, revision INTEGER NOT NULL);
CREATE TABLE unsettled (item INTEGER PRIMARY KEY, doubt INTEGER NOT NULL);
"""

#: From version 2, which knew local files alone: their version is their modification time.
_UPGRADES = {
    "2": (
        "ALTER TABLE files RENAME TO items",
        "ALTER TABLE items RENAME COLUMN source TO uri",
        "ALTER TABLE items RENAME COLUMN path TO location",
        "ALTER TABLE items RENAME COLUMN version TO revision",
        "ALTER TABLE items ADD COLUMN version TEXT NOT NULL DEFAULT ''",
        "UPDATE items SET version = CAST(mtime_ns AS TEXT)",
        "DROP INDEX files_seen",
        "DROP INDEX files_state",
        "CREATE INDEX items_seen ON items (seen)",
        "CREATE INDEX items_state ON items (state)",
        "ALTER TABLE segments RENAME COLUMN file TO item",
        "ALTER TABLE segments RENAME COLUMN version TO revision",
        "ALTER TABLE failures RENAME COLUMN file TO item",
        "ALTER TABLE failures ADD COLUMN document TEXT",
        "ALTER TABLE replaced RENAME COLUMN file TO item",
        "ALTER TABLE replaced RENAME COLUMN version TO revision",
        "ALTER TABLE unsettled RENAME COLUMN file TO item",
        "UPDATE meta SET value = '3' WHERE key = 'version'",
    )
}

#: The same for readers of a version 2, which may not change it.
_VIEWS_OF_2 = {
    "items": "id, source AS uri, path AS location, size, CAST(mtime_ns AS TEXT) AS version, mtime_ns, kind,"
    " media_type, generation, content_hash, version AS revision, state, rule, attempts, seen FROM main.files",
    "segments": "file AS item, version AS revision, ordinal, after, page, checkpoint, ids, complete"
    " FROM main.segments",
    "failures": "file AS item, ordinal, page, stage, error_type, message, NULL AS document"
    " FROM main.failures",
}


def version_of(db: sqlite3.Connection) -> str | None:
    """The version that a ledger says it has."""
    row = db.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
    return None if row is None else str(row[0])


def make(db: sqlite3.Connection) -> None:
    """The tables, in one transaction, where there are none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        version = f"INSERT INTO meta VALUES ('version', '{LEDGER_VERSION}');"
        db.executescript("BEGIN;" + TABLES + version + "COMMIT;")


def upgrade(db: sqlite3.Connection) -> None:
    """Make the tables of an older version those of today; one that is unknown stays as it is.

    The caller holds a transaction, so that a ledger is wholly of the one version or of the other.
    """
    while (steps := _UPGRADES.get(version_of(db) or "")) is not None:
        for step in steps:
            db.execute(step)


def view(db: sqlite3.Connection) -> None:
    """Let a connection that only reads see the tables of an older version as those of today."""
    if version_of(db) == "2":
        for name, columns in _VIEWS_OF_2.items():
            db.execute(f"CREATE TEMP VIEW {name} AS SELECT {columns}")


def decoded(text: bytes) -> str:
    """Text as it is stored, with U+FFFD for what can't be read."""
    return text.decode("utf-8", "replace")


def damage_of(db: sqlite3.Connection) -> str | None:
    """What is wrong with the tables of today's version, or their pages; None where SQLite finds nothing.

    Reads the whole ledger. A run would meet the damage in its middle, or take it for what was acknowledged.
    """
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        return str(verdict).partition("\n")[2] or str(verdict)
    with closing(sqlite3.connect(":memory:")) as sound:
        sound.executescript(TABLES)
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
