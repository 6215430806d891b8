"""The ledger's leftovers: records that are in the database, or may be, and have to go from there.

Those of older revisions are named by their segments. Those of attempts that never came to their end, and of
which nothing is booked, only the database can name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum

from engine.runtime.ledger.items import ItemRow, Items
from engine.runtime.ledger.segments import unpacked


class Doubt(IntEnum):
    """What is known of attempts at an item that have not come to their end.

    `SAME`: they were at the revision that the ledger knows. `OTHER`: some were at another content, or with
    other chunks or another model. `SWEEP`: the item has come to its end, and is to be swept.
    """

    SAME = 0
    OTHER = 1
    SWEEP = 2


class Leftovers:
    """The tables `replaced` and `unsettled`."""

    def __init__(self, db: sqlite3.Connection, items: Items) -> None:
        self._db = db
        self._items = items

    # Records of older revisions

    def replace(self, item: int) -> None:
        """The item's newest revision is acknowledged: what only older ones had is to be deleted."""
        self._db.execute(
            "INSERT OR REPLACE INTO replaced SELECT item, items.revision FROM segments"
            " JOIN items ON items.id = item WHERE item = ? AND segments.revision < items.revision LIMIT 1",
            (item,),
        )

    def replace_all(self, item: int) -> None:
        """No record of the item is wanted any more, of whatever revision."""
        self._db.execute("UPDATE items SET revision = revision + 1 WHERE id = ?", (item,))
        self._items.clear_failures(item)
        self.replace(item)

    def remove(self, item: int) -> None:
        """The item left the corpus: it is forgotten when its records are deleted."""
        self._items.finish(item, "removed")
        self.replace_all(item)
        self.sweep(item)
        # What was replaced may be gone already, and its mark not: another item may get this number.
        self._db.execute(
            "DELETE FROM replaced WHERE item = ?1 AND NOT EXISTS (SELECT 1 FROM segments WHERE item = ?1)",
            (item,),
        )
        self._forget_removed(item)

    def _forget_removed(self, item: int) -> None:
        nothing_left = " AND ".join(
            f"NOT EXISTS (SELECT 1 FROM {table} WHERE item = items.id)" for table in ("replaced", "unsettled")
        )
        self._db.execute(f"DELETE FROM items WHERE id = ? AND state = 'removed' AND {nothing_left}", (item,))

    def next_replaced(self, after: int = 0) -> ItemRow | None:
        """The next item, by number, with records of older revisions that are to be deleted.

        Its `revision` is the one that replaces them: another may have begun since, and may fail.
        """
        row = self._db.execute(
            "SELECT item, revision FROM replaced WHERE item > ? ORDER BY item LIMIT 1", (after,)
        ).fetchone()
        return None if row is None else replace(self._items.get(row[0]), revision=row[1])

    def stale_ids(self, item: int, revision: int, slice_size: int) -> Iterator[list[str]]:
        """Ids of revisions before this one that no later one shares, in slices; memory stays flat.

        One iteration at a time: they share a table.
        """
        self._gather("kept", item, revision)
        stale: list[str] = []
        query = "SELECT ids FROM segments WHERE item = ? AND revision < ?"
        for (packed,) in self._db.execute(query, (item, revision)):
            for record in unpacked(packed):
                if not self._db.execute("SELECT 1 FROM kept WHERE id = ?", (record,)).fetchone():
                    stale.append(record.hex())
                if len(stale) >= slice_size:
                    yield stale
                    stale = []
        if stale:
            yield stale

    def _gather(self, table: str, item: int, revision: int) -> None:
        """Put the ids of this revision and of later ones into a temporary table."""
        self._db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute(f"DELETE FROM {table}")
        query = "SELECT ids FROM segments WHERE item = ? AND revision >= ?"
        for (packed,) in self._db.execute(query, (item, revision)):
            self._db.executemany(
                f"INSERT OR IGNORE INTO {table} VALUES (?)", [(i,) for i in unpacked(packed)]
            )

    def drop_older(self, row: ItemRow) -> None:
        """What only revisions before `row.revision` had is deleted; a removed item is forgotten."""
        key = (row.id, row.revision)
        self._db.execute("DELETE FROM segments WHERE item = ? AND revision < ?", key)
        self._db.execute("DELETE FROM replaced WHERE item = ? AND revision = ?", key)
        self._forget_removed(row.id)

    # Attempts that may have left records of which nothing is known

    def open_attempt(self, item: int, known: bool) -> Doubt | None:
        """The item is about to be parsed, at the revision that the ledger knows (`known`) or at another one.

        Commit before its records can reach the database. Returns how doubtful the item is by attempts that
        have not come to their end; None where there is none.
        """
        row = self._db.execute("SELECT doubt FROM unsettled WHERE item = ?", (item,)).fetchone()
        before = None if row is None else Doubt(row[0])
        doubt = Doubt.SAME if known and before in (None, Doubt.SAME) else Doubt.OTHER
        self._db.execute("INSERT OR REPLACE INTO unsettled VALUES (?, ?)", (item, doubt))
        return None if before is None else doubt

    def close_attempts(self, item: int) -> None:
        """Segments name every record of the item that is in the database."""
        self._db.execute("DELETE FROM unsettled WHERE item = ?", (item,))

    def sweep(self, item: int, least: Doubt = Doubt.SAME) -> None:
        """The item has come to its end: what no segment names is to be deleted, if it is so doubtful."""
        self._db.execute(
            "UPDATE unsettled SET doubt = ? WHERE item = ? AND doubt >= ?", (Doubt.SWEEP, item, least)
        )

    def next_sweep(self) -> ItemRow | None:
        """The first item, by number, that is to be swept."""
        query = "SELECT item FROM unsettled WHERE doubt = ? ORDER BY item LIMIT 1"
        row = self._db.execute(query, (Doubt.SWEEP,)).fetchone()
        return None if row is None else self._items.get(row[0])

    def begin_sweep(self, item: int) -> None:
        """From now on `unnamed` is about this item."""
        self._gather("named", item, 0)

    def unnamed(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that no segment of the item named when its sweep began."""
        known = "SELECT 1 FROM named WHERE id = ?"
        return [one for one in ids if not self._db.execute(known, (bytes.fromhex(one),)).fetchone()]

    def end_sweep(self, item: int) -> None:
        """The database holds nothing more of the item that no segment names."""
        self._db.execute("DELETE FROM unsettled WHERE item = ? AND doubt = ?", (item, Doubt.SWEEP))
        self._forget_removed(item)
