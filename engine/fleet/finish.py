"""The last job of a fleet: what its tasks have done apart becomes one index, proven, and one summary.

Every step may be killed and done again. A file that two tasks had (one lost its lease, and another took it
over) belongs to the ledger that has most of it acknowledged; the others forget it, and what only they had
written is deleted.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from adapters.base import Adapter, AdapterOptions
from engine.config import Config
from engine.errors import UsageError
from engine.records import source_of
from engine.repair.books import Book, Books, missing_shards, shard_folders, shard_of_folder
from engine.repair.compare import Comparison, Difference
from engine.runtime.database import adapter_options
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.scratch import scratch
from engine.runtime.ledger.store import FileRow, Ledger
from engine.runtime.process import messages as m
from engine.runtime.report import run_directory as rundir
from engine.runtime.report import summary as report
from engine.runtime.report.reading import read_object, read_only
from engine.runtime.supervisor import EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_FAILURES, EXIT_STOPPED
from engine.runtime.workers.indexer import SWEEP_IDS, ids_made_with

#: How much of a file a ledger has in each state; the most wins.
RANKS = {"pending": 0, "failed": 1, "skipped": 1, "partial": 2, "indexed": 3}

#: Files between two signs of life, and between two commits.
BEAT_FILES, COMMIT_FILES = 10_000, 1000

#: What of a task's summary adds up.
SUMS = ("tokens", "bytes_read")

_TABLES = """
CREATE TABLE owners (
  source BLOB PRIMARY KEY, ledger INTEGER NOT NULL, file INTEGER NOT NULL, rank INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE losers (ledger INTEGER NOT NULL, file INTEGER NOT NULL, source BLOB NOT NULL);
CREATE TABLE left (ledger INTEGER NOT NULL, file INTEGER NOT NULL, source TEXT NOT NULL);
"""


@dataclass(slots=True)
class Merged:
    """What the last job found. `unfinished`: each task that is not done; nothing is published then."""

    status: str
    exit_code: int
    summary: dict[str, Any]
    unfinished: list[str] = field(default_factory=list)
    difference: Difference | None = None
    seconds: float = 0.0


class _Steps:
    """Seconds of each step of the job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def end(self, name: str) -> None:
        """The step of that name ends here, and the next begins."""
        now = time.monotonic()
        self.seconds[name], self._began = round(now - self._began, 3), now


def merge(run_dir: Path, url: str, prune: bool) -> Merged:
    """Gather, settle, prune, publish, verify and sum up the shards below a run directory.

    Raises `UsageError` where they are not the tasks of one fleet, or one is at work, and
    `DatabaseUnavailableError` where the database doesn't answer.
    """
    steps = _Steps()
    folders, unfinished = _tasks(run_dir)
    with Books(folders, url) as books:
        _check_one_fleet(run_dir, books)
        cut_off = list(_unfinished(books))
        leased = any(_config(book).get("lease") for book in books)
        # A task with leases ends well only when all leases are done, so that no other task is missed then.
        if leased and len(cut_off) < len(books.books):
            unfinished, cut_off = [], []
        unfinished += cut_off
        difference, gathered, removed = None, 0, 0
        if not unfinished:
            with books.database(*_database(books, url)) as adapter:
                gathered = adapter.gather()
                steps.end("gather")
                if leased:
                    _settle_doubles(books, adapter)
                    unfinished += _pending(books)
                if prune:
                    removed = _prune(books, adapter)
                steps.end("settle")
                if not unfinished:
                    adapter.publish(_expected(books))
                    _mark_published(books, adapter)
                    steps.end("publish")
                    with Comparison(books, adapter) as comparison:
                        difference = comparison.difference
                    steps.end("verify")
        failures = report.write_lines(run_dir / "failures.jsonl", _failures(books))
        if unfinished:
            status, code = "stopped", EXIT_STOPPED
        elif difference is not None and not difference.agrees:
            status, code = "error", EXIT_ENGINE_FAILED
        elif failures:
            status, code = "complete_with_failures", EXIT_FAILURES
        else:
            status, code = "complete", EXIT_DONE
        summary = {"status": status, "exit_code": code, **_sums(books, removed)}
        if difference is not None:
            summary["verified"] = difference.as_dict()
        summary["not_done"] = unfinished
        summary["gathered"] = gathered
        summary["merge_steps_s"] = steps.seconds
        rundir.write_summary(run_dir, summary)
    return Merged(status, code, summary, unfinished, difference, sum(steps.seconds.values()))


def _tasks(run_dir: Path) -> tuple[list[Path], list[str]]:
    """The folders of the tasks that have begun, and what is to be said of the others.

    Raises `UsageError` where there are none, or two fleets.
    """
    folders = [path for path in shard_folders(run_dir) if (path / "ledger.sqlite").is_file()]
    if not folders:
        raise UsageError(
            f"--run-dir {run_dir}: no shards/I-of-N with a ledger there; name the directory that the tasks"
            " of a fleet share (engine.run --fleet --shard I/N --run-dir)"
        )
    totals = sorted({shard_of_folder(path)[1] for path in folders})
    if len(totals) > 1:
        raise UsageError(f"--run-dir {run_dir}: holds shards of {' and of '.join(map(str, totals))}")
    begun = [path for path in folders if _has_begun(path)]
    names = [*missing_shards(run_dir), *(path.name for path in folders if path not in begun)]
    return begun, [f"shards/{name}: never began" for name in names]


def _has_begun(folder: Path) -> bool:
    """Whether a task has met the database: one that was killed before has done nothing.

    The task may be at work, and must not be held up: nothing is locked yet.
    """
    try:
        with closing(read_only(folder / "ledger.sqlite")) as db:
            return db.execute("SELECT 1 FROM meta WHERE key = 'adapter'").fetchone() is not None
    except sqlite3.DatabaseError as error:
        # What else is wrong with a ledger is told when it is opened in earnest.
        return "no such table" not in str(error)


def _database(books: Books, url: str) -> tuple[str, AdapterOptions]:
    """URL and options of the index, which is not written apart any more; a URL without options of its own
    gets those of the tasks'."""
    config = Config.from_dict(_config(books.books[0]))
    return (url if "?" in url else config.database.adapter), replace(adapter_options(config), task=None)


def _check_one_fleet(run_dir: Path, books: Books) -> None:
    """Raises `UsageError` where a task was no task of a fleet, and has published for itself."""
    for book in books:
        if not _config(book).get("fleet"):
            raise UsageError(
                f"--run-dir {book.run_dir}: was run without --fleet, so that there is nothing to merge;"
                f" engine.verify --run-dir {run_dir} proves the index of such shards"
            )


def _config(book: Book) -> dict[str, Any]:
    with book.ledger() as ledger:
        return dict(json.loads(ledger.get("config") or "{}"))


def _unfinished(books: Books) -> Iterator[str]:
    """Why each task that is not done is not."""
    for book in books:
        summary = read_object(book.run_dir / "summary.json")
        name = f"shards/{book.run_dir.name}"
        if summary is None:
            yield f"{name}: was cut off before its end"
        elif summary.get("exit_code") not in (EXIT_DONE, EXIT_FAILURES):
            yield f"{name}: ended as {summary.get('status')}"
        elif summary.get("run") != _invocations(book):
            yield f"{name}: its last start was cut off"
        else:
            yield from _pending([book])


def _pending(books: Iterable[Book]) -> Iterator[str]:
    """The tasks with files that have not come to their end."""
    for book in books:
        with book.ledger() as ledger:
            if pending := ledger.pending():
                yield f"shards/{book.run_dir.name}: {pending:,} files are pending"


def _invocations(book: Book) -> int:
    with book.ledger() as ledger:
        return int(ledger.get("run") or 0)


def _settle_doubles(books: Books, adapter: Adapter) -> None:
    """Give each file that several ledgers have to one of them. Shards by path can't have one twice."""
    with closing(scratch(books.books[0].run_dir, _TABLES)) as db:
        for number, book in enumerate(books):
            with book.ledger() as ledger:
                for met, row in enumerate(ledger.files_met()):
                    _claim(db, number, row)
                    if met % BEAT_FILES == 0:
                        books.beat()
        owners = "SELECT DISTINCT o.ledger, o.file FROM owners o JOIN losers USING (source) ORDER BY 1"
        # The marks are durable before anybody forgets what they are about.
        _for_each(books, db.execute(owners), Ledger.sweep_always)
        _for_each(books, db.execute("SELECT ledger, file FROM losers ORDER BY 1"), Ledger.forget)
    for book in books:
        with book.ledger() as ledger:
            _clean(ledger, adapter)
        books.beat()


def _for_each(books: Books, files: Iterable[tuple[int, int]], change: Callable[[Ledger, int], None]) -> int:
    """Change each of these files, (ledger, file) in the order of the ledgers; returns their number.

    A ledger is opened once for all of its files: it is read in full then.
    """
    changed = 0
    for number, group in groupby(files, key=itemgetter(0)):
        with books.books[number].ledger() as ledger:
            for _, file in group:
                change(ledger, file)
                changed += 1
                if changed % COMMIT_FILES == 0:
                    ledger.commit()
                books.beat()
            ledger.commit()
    return changed


def _claim(db: Any, number: int, row: FileRow) -> None:
    """The file is this ledger's, if none before has as much of it."""
    source, rank = row.source.encode(), RANKS[row.state]
    held = db.execute(
        "SELECT ledger, file, rank, mtime_ns FROM owners WHERE source = ?", (source,)
    ).fetchone()
    if held is None:
        db.execute("INSERT INTO owners VALUES (?, ?, ?, ?, ?)", (source, number, row.id, rank, row.mtime_ns))
    elif (rank, row.mtime_ns) > held[2:]:
        db.execute("INSERT INTO losers VALUES (?, ?, ?)", (*held[:2], source))
        mine = (number, row.id, rank, row.mtime_ns, source)
        db.execute("UPDATE owners SET ledger = ?, file = ?, rank = ?, mtime_ns = ? WHERE source = ?", mine)
    else:
        db.execute("INSERT INTO losers VALUES (?, ?, ?)", (number, row.id, source))


def _prune(books: Books, adapter: Adapter) -> int:
    """Delete the records of files that left the corpus; returns the number of files.

    Gone is what no task met in its last run, where all of them listed their inputs whole and without error.
    """
    with closing(scratch(books.books[0].run_dir, _TABLES)) as db:
        for number, book in enumerate(books):
            with book.ledger() as ledger:
                run = int(ledger.get("run") or 0)
                if ledger.get("listed") != str(run):
                    raise UsageError(
                        f"--prune: {book.run_dir} did not list all of its inputs in its last run, or was"
                        " narrowed (--include, --exclude, --no-images, --files-from, --manifest);"
                        " nothing was pruned"
                    )
                under = _folders(_config(book))
                after = 0
                while row := ledger.unseen(run, after):
                    after = row.id
                    if row.state != "removed" and row.source.startswith(under):
                        db.execute("INSERT INTO left VALUES (?, ?, ?)", (number, row.id, row.source))
            books.beat()
        gone = _for_each(books, db.execute("SELECT ledger, file FROM left ORDER BY 1, 2"), Ledger.remove)
    for book in books:
        with book.ledger() as ledger:
            _clean(ledger, adapter)
        books.beat()
    return gone


def _folders(config: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        source_of(name).rstrip("/") + "/" for name in config.get("inputs", ()) if os.path.isdir(name)
    )


def _clean(ledger: Ledger, adapter: Adapter) -> None:
    """Delete all that the ledger's files have left behind, as a run does it, without processes."""
    cleaner = Cleaner(ledger)
    prepared = False
    sweeps: dict[str, Iterator[str]] = {}
    while not cleaner.idle:
        ledger.commit()
        for request in cleaner.requests():
            if not prepared:
                adapter.prepare()
                prepared = True
            if isinstance(request, m.Delete):
                adapter.delete(request.ids)
                cleaner.deleted(request.request)
                continue
            found = sweeps.setdefault(
                request.source, ids_made_with(adapter, request.source, request.chunkers)
            )
            ids = list(islice(found, SWEEP_IDS))
            if last := len(ids) < SWEEP_IDS:
                del sweeps[request.source]
            cleaner.found(m.Found(request.request, ids, last))
    ledger.commit()


def _expected(books: Books) -> int:
    """Records that the index must hold at least."""
    expected = 0
    for book in books:
        with book.ledger() as ledger:
            expected += ledger.distinct_records()
    return expected


def _mark_published(books: Books, adapter: Adapter) -> None:
    identity, state = adapter.identity(), adapter.state()
    for book in books:
        with book.ledger() as ledger:
            ledger.set("unpublished", "")
            for name, value in (("identity", identity), ("state", state)):
                if value is not None:
                    ledger.set(name, value)
            ledger.commit()


def _failures(books: Books) -> Iterator[dict[str, object]]:
    """As each task tells them: of files that have left the corpus no more, where that can be known."""
    for book in books:
        with book.ledger() as ledger:
            run = ledger.get("run")
            yield from ledger.failures(int(run or 0) if ledger.get("listed") == run else 0)


def _sums(books: Books, removed: int) -> dict[str, Any]:
    """The counts of all ledgers together, and what adds up of the tasks' last summaries."""
    files = dict.fromkeys(
        ("discovered", "indexed", "partial", "unchanged", "skipped", "failed", "pending"), 0
    )
    totals, chunks = {"files": 0, "records": 0}, {"text": 0, "image": 0}
    spent: dict[str, Any] = {**dict.fromkeys(SUMS, 0), "seconds": 0.0, "restarts": {}}
    rates = {"chunks_per_s": 0.0, "tokens_per_s": 0.0, "images_per_s": 0.0}
    deleted = 0
    for book in books:
        with book.ledger() as ledger:
            for state, count in ledger.states().items():
                files[state] += count
                files["discovered"] += count
            for name, count in ledger.totals().items():
                totals[name] += count
            for kind, count in ledger.records_by_kind().items():
                chunks[kind] = chunks.get(kind, 0) + count
        summary = read_object(book.run_dir / "summary.json") or {}
        for name in SUMS:
            spent[name] += summary.get(name, 0)
        spent["seconds"] = max(spent["seconds"], summary.get("seconds", 0.0))
        for name in rates:
            rates[name] = round(rates[name] + summary.get("throughput", {}).get(name, 0.0), 3)
        for name, count in summary.get("restarts", {}).items():
            spent["restarts"][name] = spent["restarts"].get(name, 0) + count
        deleted += summary.get("chunks", {}).get("deleted", 0)
    return {
        "files": {**files, "removed": removed},
        "chunks": {**chunks, "indexed": totals["records"], "deleted": deleted},
        "totals": totals,
        "throughput": rates,
        **spent,
        "tasks": len(books.books),
        "environment": report.environment(),
    }
