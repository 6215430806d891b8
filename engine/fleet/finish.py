"""The last job of a fleet: merges what its tasks wrote into one verified index, and writes one summary.

Every step may be killed and repeated.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from adapters.base import Adapter, AdapterOptions
from engine.config import Config
from engine.errors import EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_FAILURES, EXIT_STOPPED, UsageError
from engine.repair.books import Book, Books, missing_shards
from engine.repair.compare import Comparison, Difference
from engine.runtime.database import adapter_options
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.reading import read_only
from engine.runtime.report.run_directory import shard_folders, shard_of_folder
from engine.runtime.report.summary import (
    Chunks,
    Files,
    FleetSummary,
    Summary,
    Throughput,
    Totals,
    environment,
    read_summary,
    write_summary,
)
from engine.runtime.workers.indexer import SWEEP_IDS, ids_made_with
from engine.sources import prefixes

#: Files that are pruned between two commits.
COMMIT_FILES = 1000

#: The states in which a run leaves files, beside `removed`.
STATES = ("indexed", "partial", "unchanged", "skipped", "failed", "pending")


@dataclass(frozen=True, slots=True)
class Merged:
    """What the merge found; `difference` is None where tasks are not done, and nothing was published. `gone`
    is how many files have left the corpus whose records stay."""

    summary: FleetSummary
    difference: Difference | None
    gone: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What a task has left: its configuration, the number of its last start, whether that listed all of its
    inputs, its last summary, and why it is not done (None: it is)."""

    book: Book
    config: dict[str, Any]
    run: int
    listed: bool
    summary: Summary
    not_done: str | None


def merge(run_dir: Path, url: str, prune: bool) -> Merged:
    """Gather, prune, publish, verify and sum up the shards below a run directory.

    Raises `UsageError` where they are not the tasks of one fleet, or one is at work, and
    `DatabaseUnavailableError` where the database doesn't answer.
    """
    steps: dict[str, float] = {}
    began = time.monotonic()

    def end(step: str) -> None:
        steps[step] = round(time.monotonic() - began - sum(steps.values()), 3)

    folders, unfinished = _folders_of_tasks(run_dir)
    with Books(folders, url) as books:
        tasks = [_look(book) for book in _alive(books)]
        for task in tasks:
            if not task.config.get("fleet"):
                raise UsageError(
                    f"--run-dir {task.book.run_dir}: was run without --fleet, so there is nothing to"
                    f" merge; check its index with engine.verify --run-dir {run_dir}"
                )
        unfinished += [f"shards/{t.book.run_dir.name}: {t.not_done}" for t in tasks if t.not_done]
        difference, gathered, removed = None, 0, 0
        if not unfinished:
            with books.database(*_database(tasks[0], url)) as adapter:
                gathered = adapter.gather()
                end("gather")
                if prune:
                    removed = _prune(books, tasks, adapter)
                end("settle")
                adapter.publish(_expected(books))
                _mark_published(books, adapter)
                end("publish")
                with Comparison(books, adapter) as comparison:
                    difference = comparison.difference
                end("verify")
        failures = rundir.write_lines(run_dir / "failures.jsonl", _failures(tasks))
        if unfinished:
            status, code = "stopped", EXIT_STOPPED
        elif difference is not None and not difference.agrees:
            status, code = "error", EXIT_ENGINE_FAILED
        elif failures:
            status, code = "complete_with_failures", EXIT_FAILURES
        else:
            status, code = "complete", EXIT_DONE
        summary = replace(
            _sums(tasks, removed),
            status=status,
            exit_code=code,
            verified=None if difference is None else difference.as_dict(),
            not_done=tuple(unfinished),
            gathered=gathered,
            merge_steps_s=steps,
        )
        write_summary(run_dir, summary)
    return Merged(summary, difference, 0 if prune or unfinished else _gone(tasks))


def _folders_of_tasks(run_dir: Path) -> tuple[list[Path], list[str]]:
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
        # Other errors of a ledger are reported when it is opened for the merge.
        return "no such table" not in str(error)


def _alive(books: Books) -> Iterator[Book]:
    """Each run directory, with heartbeats in all locks meanwhile: there may be thousands."""
    for book in books:
        books.beat()
        yield book


def _look(book: Book) -> _Task:
    summary = read_summary(book.run_dir)
    with book.ledger() as ledger:
        config = dict(json.loads(ledger.get("config") or "{}"))
        run = int(ledger.get("run") or 0)
        listed = ledger.get("listed") == str(run)
        pending = ledger.items.pending()
    not_done = None
    if summary is None:
        not_done = "was cut off before its end"
    elif summary.exit_code not in (EXIT_DONE, EXIT_FAILURES):
        not_done = f"ended as {summary.status}"
    elif summary.run != run:
        not_done = "its last start was cut off"
    elif pending:
        not_done = f"{pending:,} files are pending"
    return _Task(book, config, run, listed, summary or Summary(), not_done)


def _database(task: _Task, url: str) -> tuple[str, AdapterOptions]:
    """URL and options of the index, which is not written apart any more; a URL without options of its own
    gets those of the tasks'."""
    config = Config.from_dict(task.config)
    return (url if "?" in url else config.database.adapter), replace(adapter_options(config), task=None)


def _prune(books: Books, tasks: Sequence[_Task], adapter: Adapter) -> int:
    """Delete the records of files that left the corpus; returns the number of files.

    Gone is what no task met in its last run, where all of them listed their inputs whole and without error.
    """
    for task in tasks:
        if not task.listed:
            raise UsageError(
                f"--prune: {task.book.run_dir} did not list all of its inputs in its last run, or was"
                " limited by --include, --exclude, --no-images or --files-from; nothing was pruned"
            )
    gone = 0
    for task in tasks:
        under = prefixes(task.config.get("inputs", ()))
        with task.book.ledger() as ledger:
            after = 0
            while row := ledger.items.unseen(task.run, after):
                after = row.id
                if row.state != "removed" and row.uri.startswith(under):
                    ledger.leftovers.remove(row.id)
                    gone += 1
                    if gone % COMMIT_FILES == 0:
                        ledger.commit()
                books.beat()
            _clean(ledger, adapter)
        books.beat()
    return gone


def _gone(tasks: Sequence[_Task]) -> int:
    """How many files with records have left the corpus; 0 where not every task can tell."""
    if not all(task.listed for task in tasks):
        return 0
    gone = 0
    for task in tasks:
        with task.book.ledger() as ledger:
            gone += ledger.items.unseen_with_records(task.run, prefixes(task.config.get("inputs", ())))
    return gone


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
    for book in _alive(books):
        with book.ledger() as ledger:
            expected += ledger.audit.distinct_records()
    return expected


def _mark_published(books: Books, adapter: Adapter) -> None:
    known = {"unpublished": "", "identity": adapter.identity(), "state": adapter.state()}
    for book in _alive(books):
        with book.ledger() as ledger:
            for name, value in known.items():
                if value is not None:
                    ledger.set(name, value)
            ledger.commit()


def _failures(tasks: Sequence[_Task]) -> Iterator[dict[str, object]]:
    """The failures of each task, without those of files that are known to have left the corpus."""
    for task in tasks:
        with task.book.ledger() as ledger:
            yield from ledger.items.failures(task.run if task.listed else 0)


def _sums(tasks: Sequence[_Task], removed: int) -> FleetSummary:
    """The counts of all ledgers together, and the sums of the tasks' last summaries."""
    states, kinds, totals = Counter[str](), Counter[str](), Counter[str]()
    restarts = Counter[str]()
    for task in tasks:
        with task.book.ledger() as ledger:
            states.update(ledger.items.states())
            totals.update(ledger.audit.totals())
            kinds.update(ledger.audit.records_by_kind())
        restarts.update(task.summary.restarts)
    runs = [task.summary for task in tasks]
    rates = [run.throughput for run in runs]
    return FleetSummary(
        status="",
        exit_code=EXIT_DONE,
        files=Files(discovered=states.total(), removed=removed, **{name: states[name] for name in STATES}),
        chunks=Chunks(
            kinds["text"],
            kinds["image"],
            sum(run.chunks.deduplicated for run in runs),
            totals["records"],
            sum(run.chunks.deleted for run in runs),
        ),
        totals=Totals(totals["files"], totals["records"]),
        throughput=Throughput(
            round(sum(rate.chunks_per_s for rate in rates), 3),
            round(sum(rate.tokens_per_s for rate in rates), 3),
            round(sum(rate.images_per_s for rate in rates), 3),
        ),
        tokens=sum(run.tokens for run in runs),
        bytes_read=sum(run.bytes_read for run in runs),
        seconds=max((run.seconds for run in runs), default=0.0),
        restarts=dict(restarts),
        tasks=len(tasks),
        environment=environment(),
    )
