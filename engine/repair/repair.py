"""Makes database and ledgers agree again, in an order in which it can be killed at any moment.

Wrong records are deleted first: a kill after that leaves records missing, which every start notices. Then the
items concerned are listed in a file, and only then the ledger's entries of missing records are removed. The
list says which items have to be indexed again, until a run has processed all of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from adapters.base import Adapter
from engine.config import Config, CorpusConfig, TaskConfig
from engine.errors import UsageError
from engine.repair.books import Book, Books, missing_shards
from engine.repair.compare import Comparison, Finding
from engine.runtime.ledger.store import Ledger
from engine.sources import find_item
from engine.sources.base import Found, Unreadable

#: The file in the run directory with the items to index again: a URI as JSON on each line.
LIST = "repair.jsonl"

#: Items marked between two commits.
COMMIT_ITEMS = 1000


def check_repairable(folders: list[Path], books: Books, comparison: Comparison, adapter: Adapter) -> None:
    """Raise `UsageError` where a repair would delete records of another run, or could not index again."""
    difference = comparison.difference
    for book in books:
        if _unmerged(book):
            raise UsageError(
                f"--repair: {book.run_dir} belongs to a fleet that is not merged yet; run engine.merge first"
            )
    absent = [f"{folder / 'shards' / name}" for folder in folders for name in missing_shards(folder)]
    if absent and difference.extra.count:
        raise UsageError(
            f"--repair: {difference.extra.count:,} records are in no ledger here, and may belong to"
            f" {absent[0]}, which has none; run that shard first, or rebuild its ledger with --adopt"
        )
    identity = adapter.identity()
    other = all(book.identity != identity for book in books)
    if other and difference.acknowledged and difference.in_database and not difference.sound:
        raise UsageError(
            f"--repair: none of the {difference.in_database:,} records in the index is of this run, so it is"
            " another index; nothing was deleted: name the right --adapter, or delete that index"
        )
    for number, book in enumerate(books):
        if next(comparison.items_to_make_again(number), None) is not None:
            with book.ledger() as ledger:
                _stored_config(book, ledger)


def clear(books: Books, comparison: Comparison, adapter: Adapter) -> int:
    """Delete what is extra or wrong; returns the number of records."""
    deleted = 0
    for ids in comparison.unwanted():
        if not deleted:
            adapter.prepare()
        deleted += adapter.delete(ids)
        books.beat()
    if deleted and not any(_unpublished(book) for book in books):
        adapter.publish()
    return deleted


def mark(books: Books, comparison: Comparison, adapter: Adapter) -> None:
    """List the items concerned, remove missing records from the ledgers, and enter this index there."""
    identity = adapter.identity()
    for number, book in enumerate(books):
        with book.ledger() as ledger:
            if next(comparison.items_to_make_again(number), None) is not None:
                items = comparison.items_to_make_again(number)
                _extend_list(book, (ledger.items.get(item).uri for item in items))
                for done, item in enumerate(comparison.items_to_make_again(number), 1):
                    ledger.audit.disown(item, comparison.not_sound)
                    if done % COMMIT_ITEMS == 0:
                        ledger.commit()
                        books.beat()
            if identity is not None:
                ledger.set("identity", identity)
            ledger.commit()


def to_make(books: Books) -> Iterator[Config]:
    """For each run directory with a list of items to index again, the configuration of a run over them."""
    for book in books:
        if not (book.run_dir / LIST).exists():
            continue
        with book.ledger() as ledger:
            config = _stored_config(book, ledger)
        # The ledger knows its items. Records go into the index itself, because a fleet is merged by now.
        yield replace(
            config,
            corpus=CorpusConfig(),
            parsing=replace(config.parsing, images=True),
            database=replace(config.database, full=False),
            task=TaskConfig(),
            run=replace(config.run, dry_run=False),
            run_dir=book.run_dir,
        )


def listed(run_dir: Path) -> Iterator[Found]:
    """The items to index again, as they are now."""
    for uri in _uris(run_dir):
        yield find_item(uri) or Unreadable(uri, "it is gone, or can't be read")


def not_made(books: Books) -> Finding:
    """The listed items that could not be indexed again: they are gone, or can't be parsed any more."""
    found = Finding()
    for book in books:
        with book.ledger() as ledger:
            for uri in _uris(book.run_dir):
                row = ledger.items.find(uri)
                if row is not None and row.state in ("failed", "pending"):
                    found.add({"id": "", "source": row.uri})
    return found


def finish(books: Books) -> None:
    """Delete the lists, after a run over each."""
    for book in books:
        (book.run_dir / LIST).unlink(missing_ok=True)


def _unmerged(book: Book) -> bool:
    """Whether a fleet's records may not be in the index yet; those of an interrupted repair are."""
    with book.ledger() as ledger:
        fleet = json.loads(ledger.get("config") or "{}").get("fleet")
        return bool(fleet and ledger.get("unpublished")) and not (book.run_dir / LIST).exists()


def _unpublished(book: Book) -> bool:
    """Whether a run still has to publish the index."""
    with book.ledger() as ledger:
        return bool(ledger.get("unpublished"))


def _stored_config(book: Book, ledger: Ledger) -> Config:
    stored = ledger.get("config")
    if stored is None:
        raise UsageError(
            f"--run-dir {book.run_dir}: its ledger lacks the options of its run, so records can't be made"
            " again; index into another --run-dir"
        )
    return Config.from_dict(json.loads(stored))


def _uris(run_dir: Path) -> Iterator[str]:
    if (run_dir / LIST).exists():
        with open(run_dir / LIST, encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def _extend_list(book: Book, uris: Iterator[str]) -> None:
    """Add to what an interrupted repair listed; written durably and replaced as a whole."""
    temporary = book.run_dir / f"{LIST}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        for uri in chain(_uris(book.run_dir), uris):
            file.write(json.dumps(uri) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(book.run_dir / LIST)
