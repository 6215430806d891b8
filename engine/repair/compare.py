"""Compares the records that ledgers list as acknowledged with those in the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice

import numpy as np

from adapters.base import Adapter
from adapters.schema import embedding_field, is_made_with, model_of
from engine.records import IndexSchema, text_hash
from engine.repair.books import Books
from engine.runtime.ledger.scratch import packed, scratch
from engine.runtime.ledger.segments import unpacked

#: Examples of each kind of difference that are kept.
EXAMPLES = 10

#: Ids in one request to delete.
DELETE_IDS = 1000

#: State of a record that a ledger lists.
UNSEEN, SOUND, WRONG = 0, 1, 2

_TABLES = f"""
CREATE TABLE expected (
  id BLOB NOT NULL, ledger INTEGER NOT NULL, item INTEGER NOT NULL, wanted INTEGER NOT NULL,
  seen INTEGER NOT NULL DEFAULT {UNSEEN}, PRIMARY KEY (id, ledger)) WITHOUT ROWID;
CREATE TABLE unwanted (id TEXT NOT NULL);
CREATE TABLE lost (ledger INTEGER NOT NULL, item INTEGER NOT NULL, PRIMARY KEY (ledger, item)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Example:
    """One record; `why` says what is wrong with it."""

    id: str
    source: str
    page: int | None
    why: str | None = None


@dataclass(slots=True)
class Finding:
    """The number of records with one kind of difference, and the first few of them."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)

    def add(self, row: Mapping[str, object], why: str | None = None) -> None:
        """Count one more record, given as the database returns it."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            page = row.get("page")
            place = page if isinstance(page, int) else None
            self.examples.append(Example(str(row.get("id")), str(row.get("source") or ""), place, why))


@dataclass(slots=True)
class Difference:
    """What a comparison found. Counts are of distinct ids, those of the database of records.

    `replaced` are records of older versions that the next run deletes: neither missing nor extra.
    `pending` are items that the run has not finished.
    """

    acknowledged: int = 0
    in_database: int = 0
    replaced: int = 0
    sound: int = 0
    pending: int = 0
    vectors_checked: bool = True
    missing: Finding = field(default_factory=Finding)
    extra: Finding = field(default_factory=Finding)
    wrong: Finding = field(default_factory=Finding)

    @property
    def agrees(self) -> bool:
        """Whether ledger and database hold the same records."""
        return not (self.missing.count or self.extra.count or self.wrong.count)

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {"agrees": self.agrees, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did: records deleted, and the items that could not be indexed again completely."""

    deleted: int = 0
    not_made: Finding = field(default_factory=Finding)


class Comparison:
    """Compares when it is made; memory is constant, ids go to a temporary file in the first run directory.

    Raises `UsageError` and `DatabaseUnavailableError` as the adapter does.
    """

    def __init__(self, books: Books, adapter: Adapter) -> None:
        self._books = books
        self._adapter = adapter
        self.difference = Difference(vectors_checked=adapter.capabilities.vectors != "none")
        #: The key of every chunker that made records.
        self._chunkers: set[str] = set()
        self._db: sqlite3.Connection = scratch(books.books[0].run_dir, _TABLES)
        try:
            self._read_ledgers()
            self._read_database()
            self._find_missing()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def _read_ledgers(self) -> None:
        add = (
            "INSERT INTO expected (id, ledger, item, wanted) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET wanted = max(wanted, excluded.wanted)"
        )
        for number, book in enumerate(self._books):
            with book.ledger() as ledger:
                for held in ledger.audit.held():
                    rows = [(record, number, held.item, held.wanted) for record in unpacked(held.ids)]
                    self._db.executemany(add, rows)
                    self._books.beat()
                self._chunkers.update(name.partition(" ")[0] for name in ledger.generations())
                self.difference.pending += ledger.items.pending()
        query = "SELECT count(*) FROM (SELECT 1 FROM expected WHERE wanted GROUP BY id)"
        self.difference.acknowledged = self._db.execute(query).fetchone()[0]

    def _read_database(self) -> None:
        schema = self._adapter.schema()
        if schema is None:
            return
        # The newest first: most records are made with it.
        newest = schema.chunker.key
        chunkers = [newest, *sorted(self._chunkers - {newest})]
        difference = self.difference
        for row in self._adapter.scan(with_embeddings=difference.vectors_checked):
            difference.in_database += 1
            self._look(row, schema, chunkers)
            self._books.beat()

    def _look(self, row: Mapping[str, object], schema: IndexSchema, chunkers: list[str]) -> None:
        difference = self.difference
        record = packed(row["id"])
        query = "SELECT max(wanted), max(seen) FROM expected WHERE id = ?"
        wanted, seen = self._db.execute(query, (record,)).fetchone()
        if wanted is None:
            difference.extra.add(row)
            self._unwanted(row)
        elif not wanted:
            difference.replaced += 1
        elif seen != WRONG:
            why = "there twice" if seen else fault(row, schema, chunkers, difference.vectors_checked)
            found = WRONG if why else SOUND
            self._db.execute("UPDATE expected SET seen = ? WHERE id = ?", (found, record))
            if why:
                difference.wrong.add(row, why)
                self._unwanted(row)

    def _unwanted(self, row: Mapping[str, object]) -> None:
        if isinstance(row["id"], str):
            self._db.execute("INSERT INTO unwanted VALUES (?)", (row["id"],))

    def _find_missing(self) -> None:
        difference = self.difference
        ids = "SELECT max(seen) AS seen FROM expected WHERE wanted GROUP BY id"
        counts = f"SELECT coalesce(sum(seen = ?), 0), coalesce(sum(seen = ?), 0) FROM ({ids})"
        difference.sound, difference.missing.count = self._db.execute(counts, (SOUND, UNSEEN)).fetchone()
        query = "SELECT id, min(ledger), item FROM expected WHERE wanted AND seen = ? GROUP BY id LIMIT ?"
        for record, number, item in self._db.execute(query, (UNSEEN, EXAMPLES)):
            with self._books.books[number].ledger() as ledger:
                example = Example(
                    record.hex(), ledger.items.get(item).uri, ledger.audit.page_of(item, record)
                )
            difference.missing.examples.append(example)
        self._db.execute(
            "INSERT OR IGNORE INTO lost SELECT ledger, item FROM expected WHERE wanted AND seen <> ?",
            (SOUND,),
        )

    # For the repair

    def unwanted(self) -> Iterator[list[str]]:
        """The ids of what is extra or wrong, in slices."""
        rows = self._db.execute("SELECT id FROM unwanted")
        while ids := [record for (record,) in islice(rows, DELETE_IDS)]:
            yield ids

    def items_to_make_again(self, number: int) -> Iterator[int]:
        """The items of one ledger that lack a sound record."""
        for (item,) in self._db.execute("SELECT item FROM lost WHERE ledger = ? ORDER BY item", (number,)):
            yield item

    def not_sound(self, ids: list[bytes]) -> set[bytes]:
        """Those of the ids that the database must hold and doesn't, or holds wrong."""
        query = "SELECT 1 FROM expected WHERE id = ? AND wanted AND seen <> ? LIMIT 1"
        return {one for one in ids if self._db.execute(query, (one, SOUND)).fetchone()}


def fault(
    row: Mapping[str, object], schema: IndexSchema, chunkers: list[str], with_vector: bool
) -> str | None:
    """What is wrong with a record's content, in words; None for a sound one.

    A sound record's text hashes to its `content_hash`, its id is the digest of its own fields with one of
    the chunkers, and it has a finite vector of its model's size. Another vector of that size isn't noticed.
    """
    kind = row["kind"]
    if kind not in ("text", "image"):
        return f"its kind is {kind!r}"
    model = model_of(schema, str(kind))
    if model is None:
        return f"the index has no {kind} model"
    text = row["text"]
    if kind == "text" and (not isinstance(text, str) or text_hash(text) != row["content_hash"]):
        return "its text is not what its content_hash says"
    if not is_made_with(row, schema, chunkers):
        return "its id is not the digest of its fields"
    if not with_vector:
        return None
    vector = row[embedding_field("text" if kind == "text" else "image")]
    if not isinstance(vector, np.ndarray):
        return "it has no vector"
    if vector.shape != (model.dimensions,):
        return f"its vector has {vector.size} numbers, not {model.dimensions}"
    return None if np.isfinite(vector).all() else "its vector is not finite"
