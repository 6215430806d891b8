"""The ledger's items and what failed of them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from engine.records import SectionFailure
from engine.sources.base import Item

#: What the ledger says of an item: `pending` is everything that has not come to an end.
StoredState: TypeAlias = Literal["pending", "indexed", "partial", "skipped", "failed", "removed"]

#: The ordinal of a failure that is the whole item's.
WHOLE_ITEM = -1

_COLUMNS = (
    "id, uri, location, size, version, mtime_ns, kind, media_type, generation, content_hash, revision, state,"
    " rule, attempts, seen"
)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as the ledger knows it.

    `version` is its source's word for the content; `revision` counts what was made of it, from 0, and
    `attempts` the dispatches of this revision.
    """

    id: int
    uri: str
    location: str
    size: int
    version: str
    mtime_ns: int
    kind: str | None
    media_type: str | None
    generation: str
    content_hash: str | None
    revision: int
    state: StoredState
    rule: str | None
    attempts: int
    seen: int

    @property
    def item(self) -> Item:
        """As its source listed it."""
        return Item(self.uri, self.size, self.version, self.mtime_ns, self.location)


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One line of `failures.jsonl`. `ordinal` is that of the piece, `WHOLE_ITEM` for all of the item."""

    item: int
    ordinal: int
    page: int | None
    stage: str
    error_type: str
    message: str
    document: str | None = None

    @staticmethod
    def of_section(item: int, ordinal: int, failure: SectionFailure) -> FailureRow:
        """A piece of the item that can't be parsed."""
        return FailureRow(
            item, ordinal, failure.page, "parse", failure.error_type, failure.message, failure.document
        )


class Items:
    """The tables `items` and `failures`. `remember` is called with each generation that is booked."""

    def __init__(self, db: sqlite3.Connection, remember: Callable[[str], None]) -> None:
        self._db = db
        self._remember = remember

    def find(self, uri: str) -> ItemRow | None:
        """The item of that URI, if it was ever seen."""
        return self._one("uri = ?", uri)

    def get(self, item: int) -> ItemRow:
        """The item with that number. Raises `KeyError`."""
        row = self._one("id = ?", item)
        if row is None:
            raise KeyError(item)
        return row

    def _one(self, where: str, *values: object) -> ItemRow | None:
        row = self._db.execute(f"SELECT {_COLUMNS} FROM items WHERE {where}", values).fetchone()
        return None if row is None else _row(row)

    def add(self, item: Item, run: int) -> ItemRow:
        """An item that was never seen before."""
        made = self._db.execute(
            "INSERT INTO items (uri, location, size, version, mtime_ns, seen) VALUES (?, ?, ?, ?, ?, ?)",
            (item.uri, os.fsencode(item.location), item.size, item.version, item.mtime_ns, run),
        )
        # With the table's defaults.
        return ItemRow(
            id=made.lastrowid or 0,
            uri=item.uri,
            location=item.location,
            size=item.size,
            version=item.version,
            mtime_ns=item.mtime_ns,
            kind=None,
            media_type=None,
            generation="",
            content_hash=None,
            revision=0,
            state="pending",
            rule=None,
            attempts=0,
            seen=run,
        )

    def mark_seen(self, item: int, run: int) -> None:
        """This invocation met the item."""
        self._db.execute("UPDATE items SET seen = ? WHERE id = ?", (run, item))

    def touch(self, item: int, found: Item) -> None:
        """The source has another word for the item's version; its content is the same."""
        self._db.execute(
            "UPDATE items SET size = ?, version = ?, mtime_ns = ? WHERE id = ?",
            (found.size, found.version, found.mtime_ns, item),
        )

    def start_revision(self, item: int, found: Item) -> None:
        """The item's content, chunks or model changed: what follows belongs to a new revision of it."""
        self._db.execute(
            "UPDATE items SET revision = revision + 1, size = ?, version = ?, mtime_ns = ?, generation = '',"
            " kind = NULL, media_type = NULL, content_hash = NULL, rule = NULL, attempts = 0,"
            " state = 'pending' WHERE id = ?",
            (found.size, found.version, found.mtime_ns, item),
        )
        self.clear_failures(item)

    def start_attempt(self, item: int) -> None:
        """The item is about to be parsed; commit before its records can reach the database."""
        self._db.execute("UPDATE items SET attempts = attempts + 1, state = 'pending' WHERE id = ?", (item,))

    def describe(self, item: int, kind: str, media_type: str, generation: str, content_hash: str) -> None:
        """What parsing found the item to be."""
        self._db.execute(
            "UPDATE items SET kind = ?, media_type = ?, generation = ?, content_hash = ? WHERE id = ?",
            (kind, media_type, generation, content_hash, item),
        )
        if generation:
            self._remember(generation)

    def finish(self, item: int, state: StoredState, rule: str | None = None) -> None:
        """The item has come to its end in this state."""
        self._db.execute("UPDATE items SET state = ?, rule = ? WHERE id = ?", (state, rule, item))

    def unseen(self, run: int, after: int) -> ItemRow | None:
        """The next item, by number, that this invocation didn't meet."""
        return self._one("seen < ? AND id > ? ORDER BY id LIMIT 1", run, after)

    # Counts

    def unseen_with_records(self, run: int, under: tuple[str, ...]) -> int:
        """How many items with records, below these URIs, this invocation didn't meet."""
        rows = self._db.execute(
            "SELECT uri FROM items WHERE seen < ? AND state <> 'removed'"
            " AND EXISTS (SELECT 1 FROM segments WHERE item = items.id)",
            (run if under else 0,),
        )
        return sum(uri.startswith(under) for (uri,) in rows)

    def count(self) -> int:
        """How many items were ever met."""
        return int(self._db.execute("SELECT count(*) FROM items").fetchone()[0])

    def pending(self) -> int:
        """How many items have not come to an end."""
        return int(self._db.execute("SELECT count(*) FROM items WHERE state = 'pending'").fetchone()[0])

    def states(self) -> dict[str, int]:
        """How many items are in each state, without those that were removed."""
        query = "SELECT state, count(*) FROM items WHERE state <> 'removed' GROUP BY state"
        return dict(self._db.execute(query).fetchall())

    # Failures

    def fail(self, failure: FailureRow) -> None:
        """An item or a piece of it failed; the newest reason stays."""
        # A message may quote a name that is not UTF-8, which SQLite would refuse.
        message = failure.message.encode("utf-8", "backslashreplace").decode()
        self._db.execute(
            "INSERT OR REPLACE INTO failures (item, ordinal, page, stage, error_type, message, document)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                failure.item,
                failure.ordinal,
                failure.page,
                failure.stage,
                failure.error_type,
                message,
                failure.document,
            ),
        )

    def clear_failures(self, item: int) -> None:
        """The item is about to be tried again, or came through."""
        self._db.execute("DELETE FROM failures WHERE item = ?", (item,))

    def failures(self, seen_since: int = 0) -> Iterator[dict[str, object]]:
        """The lines of `failures.jsonl`, streamed: items that were met in that invocation or later."""
        names = ("source", "document", "page", "stage", "error_type", "message", "attempts")
        rows = self._db.execute(
            "SELECT uri, document, page, stage, error_type, message, attempts FROM failures"
            " JOIN items ON items.id = failures.item WHERE seen >= ? ORDER BY items.id, ordinal",
            (seen_since,),
        )
        for row in rows:
            yield dict(zip(names, row, strict=True))


def _row(row: Sequence[Any]) -> ItemRow:
    return ItemRow(row[0], row[1], os.fsdecode(row[2]), *row[3:])
