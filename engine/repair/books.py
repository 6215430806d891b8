"""Locked run directories, and the database that their runs filled."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import adapters
from adapters.base import Adapter, AdapterOptions
from engine.errors import UsageError
from engine.records import index_url
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.lock import RunLock
from engine.runtime.process.descriptors import open_many_files
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.run_directory import shard_folders, shard_of_folder

#: Seconds between two heartbeats in the locks.
BEAT_S = 1.0


def missing_shards(folder: Path) -> list[str]:
    """The names of shards without a ledger, where other shards of the same total have one."""
    there = {shard_of_folder(path) for path in shard_folders(folder) if _has_ledger(path)}
    totals = sorted({total for _, total in there})
    return [f"{i}-of-{total}" for total in totals for i in range(total) if (i, total) not in there]


def with_ledger(folders: Iterable[Path]) -> list[Path]:
    """Each run directory with a ledger, shards one by one. Raises `UsageError` where a folder has none."""
    found: dict[Path, None] = {}
    for folder in folders:
        here = [path for path in (folder, *shard_folders(folder)) if _has_ledger(path)]
        if not here:
            raise UsageError(
                f"--run-dir {folder}: no ledger.sqlite there; name the directory of a run (--run-dir of"
                " engine.run), or rebuild a lost ledger with --adopt"
            )
        found.update(dict.fromkeys(path.absolute() for path in here))
    return list(found)


def _has_ledger(folder: Path) -> bool:
    return (folder / "ledger.sqlite").is_file()


class Pulse:
    """The heartbeat of locked directories for other hosts; `beat` is cheap, so call it often."""

    def __init__(self) -> None:
        self.locks: list[RunLock] = []
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """Touch the locks once a second."""
        if time.monotonic() - self._beaten > BEAT_S:
            self._beaten = time.monotonic()
            for lock in self.locks:
                lock.beat()


@dataclass(frozen=True)
class Book:
    """One locked run directory; `identity` is that of the index that its runs filled."""

    run_dir: Path
    identity: str | None

    def ledger(self) -> closing[Ledger]:
        """Its ledger, open for the block: one at a time, since each of many shards takes memory."""
        return closing(Ledger(self.run_dir))


class Books:
    """Several run directories that fill one database, locked inside the block.

    Raises `UsageError` where a run is running in one of them, or its ledger is for another database.
    """

    def __init__(self, run_dirs: Iterable[Path], url: str) -> None:
        open_many_files()
        self._stack = ExitStack()
        self._pulse = Pulse()
        self.beat = self._pulse.beat
        self.books: list[Book] = []
        try:
            for run_dir in run_dirs:
                # Waiting for another host's lock may take minutes; the locks held already need heartbeats.
                lock = rundir.claim(run_dir, check=self.beat)
                self._stack.callback(lock.release)
                self._pulse.locks.append(lock)
                with closing(Ledger(run_dir)) as ledger:
                    filled = ledger.get("adapter")
                    self.books.append(Book(run_dir, ledger.get("identity")))
                index = index_url(url)
                if filled != index:
                    known = f"its ledger is for {filled}, not for {index}" if filled else "no run used it yet"
                    raise UsageError(
                        f"--run-dir {run_dir}: {known}; give the --adapter and the --run-dir of the same run"
                    )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Book]:
        return iter(self.books)

    def close(self) -> None:
        """Release the locks. Safe to call twice."""
        self._stack.close()

    @contextmanager
    def database(self, url: str, options: AdapterOptions | None = None) -> Iterator[Adapter]:
        """The index that the ledgers describe: that of the URL, or one that is still being loaded."""
        with closing(adapters.connect(url, options)) as adapter:
            for book in self.books:
                if book.identity is not None and adapter.resume(book.identity):
                    break
            yield adapter
