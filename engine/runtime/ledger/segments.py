"""The ledger's segments: what the database has acknowledged."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

#: Bytes of one packed record id.
ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A segment that the database has answered; `ids` packs those acknowledged, 16 bytes each."""

    item: int
    revision: int
    ordinal: int
    after: int
    page: int | None
    checkpoint: str
    ids: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a revision has come: each segment up to `last` is acknowledged, and those in `done` after it.

    `checkpoint` is where parsing goes on after `last` (None: at the start of the item, `last` is then -1).
    """

    last: int = -1
    checkpoint: str | None = None
    done: tuple[int, ...] = ()
    chunks: int = 0


class Segments:
    """The table `segments`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def acknowledge(self, segments: Sequence[Acknowledged]) -> None:
        """The database has answered for these segments."""
        self._db.executemany(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (s.item, s.revision, s.ordinal, s.after, s.page, s.checkpoint, s.ids, s.complete)
                for s in segments
            ],
        )

    def progress(self, item: int, revision: int) -> Progress:
        """Where a revision's parsing can go on: the chain of acknowledged segments from the item's start."""
        last, checkpoint, chunks = -1, None, 0
        done: list[int] = []
        rows = self._db.execute(
            "SELECT ordinal, after, checkpoint, length(ids), complete FROM segments"
            " WHERE item = ? AND revision = ? ORDER BY ordinal",
            (item, revision),
        )
        for ordinal, after, token, size, complete in rows:
            chunks += size // ID_BYTES
            if not complete:
                continue
            if not done and after == last:
                last, checkpoint = ordinal, token
            else:
                done.append(ordinal)
        return Progress(last, checkpoint, tuple(done), chunks)

    def has_records(self, item: int | None = None) -> bool:
        """Whether any record (of this item) is in the database."""
        where = "" if item is None else f"WHERE item = {int(item)}"
        return self._db.execute(f"SELECT 1 FROM segments {where} LIMIT 1").fetchone() is not None


def unpacked(ids: bytes) -> list[bytes]:
    """Packed ids one by one."""
    return [ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES)]
