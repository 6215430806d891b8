"""`--dry-run`: what a run would do, by the ledger and the listing alone; nothing is written."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from engine.config import Config
from engine.errors import UsageError
from engine.runtime.flow.intake import corpus_of
from engine.runtime.report.reading import read_only
from engine.sources import check_inputs
from engine.sources.base import Found, Item, LeftOut


def dry_run(config: Config) -> int:
    """Print how many files are new, changed, unchanged or left out.

    Raises `UsageError` for bad inputs and for a ledger that can't be read.
    """
    corpus = config.corpus
    check_inputs(corpus.inputs, corpus.files_from)
    counts = dict.fromkeys(("new", "changed", "to be tried again", "unchanged", "left out", "unreadable"), 0)
    size = taken = 0
    path = config.run_dir / "ledger.sqlite"
    try:
        with closing(_open(path)) as ledger:
            for found in corpus_of(config):
                if corpus.limit is not None and taken >= corpus.limit:
                    break
                taken += 1
                what = _what(found, ledger)
                counts[what] += 1
                if isinstance(found, Item) and what != "unchanged":
                    size += found.size
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a usable ledger ({error}); name another --run-dir") from None
    parts = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    sys.stdout.write(f"dry run: {taken:,} paths found: {parts or 'nothing'}; {size:,} bytes to read\n")
    return 0


def _open(path: Path) -> sqlite3.Connection:
    """The ledger, for reading alone; one without a file in it where there is none."""
    if path.exists():
        return read_only(path)
    ledger = sqlite3.connect(":memory:")
    ledger.execute("CREATE TABLE items (uri, size, version, state)")
    return ledger


def _what(found: Found, ledger: sqlite3.Connection) -> str:
    if not isinstance(found, Item):
        return "left out" if isinstance(found, LeftOut) else "unreadable"
    query = "SELECT size, version, state FROM items WHERE uri = ?"
    row = ledger.execute(query, (found.uri,)).fetchone()
    if row is None:
        return "new"
    if not found.same_content(*row[:2]):
        return "changed"
    return "unchanged" if row[2] in ("indexed", "skipped") else "to be tried again"
