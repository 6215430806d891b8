"""Where a task's files come from, other than from listing a corpus: its shard of a manifest, or leases."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from engine.config import Config
from engine.errors import UsageError
from engine.fleet.identity import fleet_folder
from engine.fleet.leases import Lease, Leases
from engine.fleet.manifest import Line, read
from engine.fleet.shared import RealFolder
from engine.fleet.table import Shares
from engine.stages.discover import Found, FoundFile, look_at

#: In the run directory: the leases that this task holds, for the process that goes on when it is killed.
BOOK = "leases.json"


def shard_files(config: Config) -> Iterator[Found]:
    """The files of this task's shard, each looked at when it is its turn. Raises `UsageError`."""
    shares = Shares(Path(config.manifest or ""), "shards")
    number, tasks = config.shard
    if shares.tasks != tasks:
        raise UsageError(
            f"--shard {number}/{tasks}: {config.manifest} was cut into {shares.tasks} shards;"
            f" give I/{shares.tasks}, or plan again with --shards {tasks}"
        )
    return (_as_it_is(line) for line in shares.lines(number))


def planned_files(config: Config) -> Iterator[Found]:
    """Every file that this task may get: its shard's, or with leases all. Raises `UsageError`."""
    if not config.lease:
        return shard_files(config)
    return (_as_it_is(line) for line in read(Path(config.manifest or "")))


class LeasedFiles:
    """The files of the leases that this task gets, one lease at a time; the next one when nothing waits.

    Raises `UsageError` for a manifest without a plan, and `OSError`.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shares = Shares(Path(config.manifest or ""), "leases")
        folder = fleet_folder(config) / "leases" / self._shares.digest[:16]
        number, tasks = config.shard
        self._leases = Leases(
            RealFolder(folder), len(self._shares), number, tasks, config.lease_ttl, _owner(), clock
        )
        self._book = config.run_dir / BOOK
        self._leases.resume(_read_book(self._book, self._shares.digest))
        #: Leases that are held and not begun, those that an earlier process of this task had begun first.
        self._next = list(self._leases.held)
        self._current: Lease | None = None
        self._lines: Iterator[Line] = iter(())
        #: By lease, how many of its files are on their way; and the leases whose files were all given.
        self._open: Counter[int] = Counter()
        self._given: dict[int, Lease] = {}
        self._resting = False

    @property
    def finished(self) -> bool:
        """Whether every lease is done, of whatever task."""
        return self._leases.finished

    def next(self, hungry: bool) -> Found | None:
        """The next file; None where there is none now. Where it is not `hungry` it takes no further lease."""
        while True:
            for line in self._lines:
                if self._current is not None:
                    return _as_it_is(line, self._current)
            if self._current is not None:
                self._given[self._current.number] = self._current
                self._current = None
            if not hungry or self._resting:
                return None
            if not self._begin(self._next.pop(0) if self._next else self._leases.take(self._open)):
                self._resting = True
                self._seek()

    def began(self, lease: int) -> None:
        """A file of this lease is on its way."""
        self._open[lease] += 1

    def committed(self, ended: Mapping[int, int]) -> None:
        """So many files of each lease have come to their end, and the ledger has it on disk. Call it often:
        what is due is done here."""
        self._open.subtract(ended)
        self._open = +self._open
        over = [lease for number, lease in self._given.items() if not self._open[number]]
        for lease in over:
            del self._given[lease.number]
            if lease in self._leases.held:
                self._leases.done(lease, {"files": self._shares.files(lease.number)})
        if over:
            self._write_book()
        if due := self._clock() >= self._leases.due:
            self._give_up(self._leases.beat())
        if self._resting and (due or over):
            self._seek()

    def _seek(self) -> None:
        if self._begin(self._leases.seek(self._open)):
            self._resting = False

    def _begin(self, lease: Lease | None) -> bool:
        if lease is None:
            return False
        self._current, self._lines = lease, self._shares.lines(lease.number)
        self._write_book()
        return True

    def _give_up(self, lost: list[Lease]) -> None:
        """What others have taken over is left to them, but for files that are on their way."""
        if self._current in lost:
            self._current, self._lines = None, iter(())
        self._next = [lease for lease in self._next if lease not in lost]
        for lease in lost:
            self._given.pop(lease.number, None)

    def _write_book(self) -> None:
        held = [[lease.number, lease.holder] for lease in self._leases.held]
        temporary = self._book.with_name(self._book.name + ".new")
        content = {"manifest": self._shares.digest, "held": held}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._book)


def _as_it_is(line: Line, lease: Lease | None = None) -> Found:
    """The path as it is now. What was left out or could not be looked at when it was listed stays so."""
    was = line.found
    if not isinstance(was, FoundFile):
        return was
    found = look_at(was.path, was.source)
    if not isinstance(found, FoundFile):
        return found
    changed = (found.size, found.mtime_ns) != (was.size, was.mtime_ns)
    if lease is None:
        return replace(found, changed=changed)
    return replace(found, lease=lease.number, shared=lease.holder > 1, changed=changed)


def _read_book(path: Path, digest: str) -> list[Lease]:
    """The leases that an earlier process held, of this manifest; none where the file says nothing of it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["manifest"] == digest:
            return [Lease(int(number), int(holder)) for number, holder in content["held"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return []


def _owner() -> dict[str, object]:
    """Who holds a lease, for people."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    names = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": boot_id.read_text().strip() if boot_id.exists() else None,
        "job": {name: os.environ[name] for name in names if name in os.environ} or None,
    }
