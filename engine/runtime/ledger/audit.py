"""The ledger against the database: what must be there, and what is booked when it is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from engine.runtime.ledger.segments import ID_BYTES, unpacked

#: Whether the database must hold a segment's records: they are not of a revision that was replaced.
_WANTED = "(replaced.revision IS NULL OR segments.revision >= replaced.revision)"


@dataclass(frozen=True, slots=True)
class Held:
    """The packed ids of a segment; `wanted`: the database must hold them, else they are to be deleted."""

    item: int
    ids: bytes
    wanted: bool


@dataclass(frozen=True, slots=True)
class Booked:
    """Records that the ledger has booked as acknowledged, and how many the database must hold at least.

    The second counts no record that is to be deleted, and of an item with several revisions only the largest,
    because revisions may share records.
    """

    records: int
    least: int


class Audit:
    """Sums and comparisons over all segments."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def held(self) -> Iterator[Held]:
        """Every segment's ids, streamed. Change no segment meanwhile."""
        query = f"SELECT item, ids, {_WANTED} FROM segments LEFT JOIN replaced USING (item)"
        for item, packed, wanted in self._db.execute(query):
            yield Held(item, packed, bool(wanted))

    def page_of(self, item: int, record: bytes) -> int | None:
        """The page of one record of the item."""
        query = "SELECT page FROM segments WHERE item = ? AND instr(ids, ?) LIMIT 1"
        row = self._db.execute(query, (item, record)).fetchone()
        return None if row is None else row[0]

    def disown(self, item: int, gone: Callable[[list[bytes]], Set[bytes]]) -> None:
        """Some records of the item are not in the database: their segments, and so the item, are made again.

        `gone` tells which of some ids are meant. The rest of such a segment stays acknowledged.
        """
        key = "item = ? AND revision = ? AND ordinal = ?"
        segments = self._db.execute(
            "SELECT revision, ordinal FROM segments WHERE item = ?", (item,)
        ).fetchall()
        for revision, ordinal in segments:
            place = (item, revision, ordinal)
            (packed,) = self._db.execute(f"SELECT ids FROM segments WHERE {key}", place).fetchone()
            ids = unpacked(packed)
            lost = gone(ids)
            kept = b"".join(record for record in ids if record not in lost)
            if not kept:
                self._db.execute(f"DELETE FROM segments WHERE {key}", place)
            elif lost:
                self._db.execute(f"UPDATE segments SET ids = ?, complete = 0 WHERE {key}", (kept, *place))
        # At least one attempt: what is made again may be in the database by then.
        self._db.execute(
            "UPDATE items SET state = 'pending', attempts = max(attempts, 1) WHERE id = ?", (item,)
        )

    def totals(self) -> dict[str, int]:
        """Items with records in the database, and those records; the keys are those of `summary.json`."""
        items, size = self._db.execute(
            "SELECT count(DISTINCT item), coalesce(sum(length(ids)), 0) FROM segments"
        ).fetchone()
        return {"files": items, "records": size // ID_BYTES}

    def records_by_kind(self) -> dict[str, int]:
        """Records by the kind of their item."""
        query = (
            "SELECT kind, sum(length(ids)) FROM segments JOIN items ON items.id = item"
            " WHERE kind IS NOT NULL GROUP BY kind"
        )
        return {str(kind): size // ID_BYTES for kind, size in self._db.execute(query)}

    def booked(self) -> Booked:
        """What is acknowledged, in one pass over the segments without a look at their ids."""
        revisions = (
            f"SELECT item, sum(length(ids)) AS size, {_WANTED} AS wanted FROM segments"
            " LEFT JOIN replaced USING (item) GROUP BY item, segments.revision"
        )
        items = f"SELECT sum(size) AS size, max(size * wanted) AS least FROM ({revisions}) GROUP BY item"
        size, least = self._db.execute(
            f"SELECT coalesce(sum(size), 0), coalesce(sum(least), 0) FROM ({items})"
        ).fetchone()
        return Booked(size // ID_BYTES, least // ID_BYTES)

    def distinct_records(self) -> int:
        """Records that the database must hold: revisions of one item that are both there share some."""
        shared = 0
        several = "SELECT item FROM segments GROUP BY item HAVING min(revision) < max(revision)"
        for (item,) in self._db.execute(several).fetchall():
            rows = self._db.execute("SELECT ids FROM segments WHERE item = ?", (item,))
            ids = [record for (packed,) in rows for record in unpacked(packed)]
            shared += len(ids) - len(set(ids))
        return self.totals()["records"] - shared
