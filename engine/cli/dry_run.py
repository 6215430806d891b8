"""`--dry-run`: what a run would do, told by the ledger and the files' times alone; nothing is written."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from engine.config import Config
from engine.errors import UsageError
from engine.runtime.report.reading import read_only
from engine.stages.discover import Discovery, FoundFile, LeftOut, Unreadable, check_inputs


def dry_run(config: Config) -> int:
    """Print how many files are new, changed, unchanged or left out.

    Raises `UsageError` for bad inputs and for a ledger that can't be read.
    """
    corpus = config.corpus
    check_inputs(corpus.inputs, corpus.files_from)
    discovery = Discovery(
        corpus.inputs, corpus.files_from, corpus.include, corpus.exclude, corpus.hidden, config.task.shard
    )
    counts = dict.fromkeys(("new", "changed", "to be tried again", "unchanged", "left out", "unreadable"), 0)
    size = taken = 0
    path = config.run_dir / "ledger.sqlite"
    try:
        with closing(_open(path)) as ledger:
            for found in discovery:
                if corpus.limit is not None and taken >= corpus.limit:
                    break
                taken += 1
                what = _what(found, ledger)
                counts[what] += 1
                if isinstance(found, FoundFile) and what != "unchanged":
                    size += found.size
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path}: not a usable ledger ({error}); name another --run-dir") from None
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items() if number)
    sys.stdout.write(f"dry run: {taken:,} paths found: {told or 'nothing'}; {size:,} bytes to read\n")
    return 0


def _open(path: Path) -> sqlite3.Connection:
    """The ledger, for reading alone; one without a file in it where there is none."""
    if path.exists():
        return read_only(path)
    ledger = sqlite3.connect(":memory:")
    ledger.execute("CREATE TABLE files (source, size, mtime_ns, state)")
    return ledger


def _what(found: FoundFile | LeftOut | Unreadable, ledger: sqlite3.Connection) -> str:
    if not isinstance(found, FoundFile):
        return "left out" if isinstance(found, LeftOut) else "unreadable"
    query = "SELECT size, mtime_ns, state FROM files WHERE source = ?"
    row = ledger.execute(query, (found.source,)).fetchone()
    if row is None:
        return "new"
    if row[:2] != (found.size, found.mtime_ns):
        return "changed"
    return "unchanged" if row[2] in ("indexed", "skipped") else "to be tried again"
