"""`--dry-run`: what a run would do, by the ledger, the listing and how files begin; nothing is written."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

from engine import parsers
from engine.config import Config
from engine.errors import SkipFileError, UsageError
from engine.runtime.flow.intake import check_corpus, corpus_of, is_narrowed
from engine.runtime.generation import Generation
from engine.runtime.ledger.counts import Counts
from engine.runtime.report.closing import gone, pruning, skipped
from engine.runtime.report.reading import read_only
from engine.sources import Corpus, open_item, opens_cheaply, prefixes
from engine.sources.base import Found, Item, LeftOut

#: What becomes of items, in the order in which it is told.
OUTCOMES = (
    "new", "changed", "to be embedded anew", "to be tried again", "unchanged", "skipped", "unreadable",
)  # fmt: skip


def dry_run(config: Config) -> int:
    """Print how many files are new, changed, unchanged, skipped by which rule, and gone from the corpus.

    Raises `UsageError` for bad inputs and for a ledger that can't be read.
    """
    check_corpus(config)
    parsers.check()
    path = config.run_dir / "ledger.sqlite"
    try:
        with closing(_open(path)) as ledger:
            for line in _told(config, ledger):
                sys.stdout.write(line + "\n")
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a usable ledger ({error}); name another --run-dir") from None
    return 0


def _open(path: Path) -> sqlite3.Connection:
    """The ledger, for reading alone; one without a file in it where there is none."""
    if path.exists():
        return read_only(path)
    ledger = sqlite3.connect(":memory:")
    ledger.execute("CREATE TABLE items (id, uri, size, version, state, rule, kind, generation)")
    ledger.execute("CREATE TABLE segments (item)")
    return ledger


def _told(config: Config, ledger: sqlite3.Connection) -> Iterator[str]:
    """The lines. What the listing met is kept in a temporary table, so that memory stays flat."""
    ledger.execute("CREATE TEMP TABLE met (id INTEGER PRIMARY KEY)")
    outcomes, counts = dict.fromkeys(OUTCOMES, 0), Counts()
    size = taken = 0
    made_with = _made_with(config, ledger)
    corpus, limit = corpus_of(config), config.corpus.limit
    for found in corpus:
        if limit is not None and taken >= limit:
            break
        taken += 1
        what = _what(found, ledger, config.parsing.images, made_with)
        if isinstance(what, LeftOut):
            counts.skip(what.uri, what.rule)
            what = "skipped"
        elif isinstance(found, Item) and what not in ("unchanged", "unreadable"):
            size += found.size
        outcomes[what] += 1
    parts = ", ".join(f"{number:,} {what}" for what, number in outcomes.items() if number)
    yield f"dry run: {taken:,} paths found: {parts or 'nothing'}; {size:,} bytes to read"
    if counts.rules:
        yield f"skipped: {skipped(counts)}"
    if number := _left(config, corpus, ledger):
        files = "1 file" if number == 1 else f"{number:,} files"
        told = gone(number, pruning(config.task.fleet))
        yield f"pruned: the records of {files}" if config.corpus.prune else told


def _made_with(config: Config, ledger: sqlite3.Connection) -> dict[str, str | None]:
    """The generation of which this run would make the records of each kind that the ledger has; a kind whose
    model is not to be had here is missing."""
    kinds = [kind for (kind,) in ledger.execute("SELECT DISTINCT kind FROM items WHERE generation <> ''")]
    found: dict[str, str | None] = {}
    if not kinds:
        return found
    # What is wrong with a model is for the run itself to say.
    with suppress(UsageError):
        generation = Generation(config, lambda _: None)
        for kind in sorted(kinds, reverse=True):
            found[kind] = generation.name(kind)
    return found


def _what(
    found: Found, ledger: sqlite3.Connection, images: bool, made_with: Mapping[str, str | None]
) -> str | LeftOut:
    """One of `OUTCOMES`, or the rule that leaves it out."""
    if not isinstance(found, Item):
        return found if isinstance(found, LeftOut) else "unreadable"
    query = "SELECT id, size, version, state, rule, kind, generation FROM items WHERE uri = ?"
    row = ledger.execute(query, (found.uri,)).fetchone()
    if row is not None:
        ledger.execute("INSERT OR IGNORE INTO met VALUES (?)", (row[0],))
    if row is None or row[3] == "removed":
        return _looked_at(found, "new", images)
    if not found.same_content(row[1], row[2]):
        return _looked_at(found, "changed", images)
    if row[3] == "skipped":
        return LeftOut(found.uri, row[4] or "")
    if row[3] != "indexed":
        return _looked_at(found, "to be tried again", images)
    kind, generation = row[5:]
    anew = generation and made_with.get(kind) not in (None, generation)
    return "to be embedded anew" if anew else "unchanged"


def _looked_at(item: Item, what: str, images: bool) -> str | LeftOut:
    """The same, unless the item's first bytes show that it will be left out."""
    if item.size == 0:
        return LeftOut(item.uri, "empty")
    if not opens_cheaply(item):
        return what
    try:
        with open_item(item) as opened:
            media_type = parsers.detect(opened, item.location)
    except SkipFileError as error:
        return LeftOut(item.uri, error.rule)
    except OSError:
        return "unreadable"
    only_pictures = parsers.kinds_of(media_type) == {"image"}
    return LeftOut(item.uri, "no-images") if only_pictures and not images else what


def _left(config: Config, corpus: Corpus, ledger: sqlite3.Connection) -> int:
    """How many items with records have left the corpus; 0 where the listing can't tell."""
    if is_narrowed(config) or not corpus.complete:
        return 0
    below = prefixes(config.corpus.inputs)
    rows = ledger.execute(
        "SELECT uri FROM items WHERE state <> 'removed' AND id NOT IN (SELECT id FROM met)"
        " AND EXISTS (SELECT 1 FROM segments WHERE item = items.id)"
    )
    return sum(uri.startswith(below) for (uri,) in rows)
