"""Where a task's files come from, other than from listing a corpus: its shard of a manifest, or leases."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from engine.config import Config
from engine.fleet.identity import check_cut, fleet_folder
from engine.fleet.leases import Lease, Leases
from engine.fleet.manifest import Line, read
from engine.fleet.shared import RealFolder
from engine.fleet.table import Shares
from engine.stages.discover import Found, FoundFile, look_at

#: In the run directory: the leases that this task holds, for the process that goes on when it is killed.
BOOK = "leases.json"


def shard_files(config: Config) -> Iterator[Found]:
    """The files of this task's shard, each looked at when it is its turn. Raises `UsageError`."""
    check_cut(config)
    shares = Shares(Path(config.task.manifest or ""), "shards")
    return (_as_it_is(line) for line in shares.lines(config.task.shard[0]))


def planned_files(config: Config) -> Iterator[Found]:
    """Every file that this task may get: its shard's, or with leases all. Raises `UsageError`."""
    if not config.task.lease:
        return shard_files(config)
    return (_as_it_is(line) for line in read(Path(config.task.manifest or "")))


class LeasedFiles:
    """The files of the leases that this task gets, one lease at a time; the next one when nothing waits.

    Raises `UsageError` for a manifest without a plan, and `OSError`.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shares = Shares(Path(config.task.manifest or ""), "leases")
        folder = fleet_folder(config) / "leases" / self._shares.digest[:16]
        number, tasks = config.task.shard
        self._leases = Leases(
            RealFolder(folder), len(self._shares), number, tasks, config.task.lease_ttl, _owner(), clock
        )
        self._book = config.run_dir / BOOK
        self._leases.resume(_read_book(self._book, self._shares.digest))
        #: Leases that are held and not begun, those that an earlier process of this task had begun first.
        self._next = list(self._leases.held)
        self._current: Lease | None = None
        self._lines: Iterator[tuple[int, Line]] = iter(())
        #: By lease, the places of its files that are on their way, and how many places were given; and the
        #: leases of which all were.
        self._open: dict[int, set[int]] = {}
        self._places: dict[int, int] = {}
        self._given: dict[int, Lease] = {}
        self._resting = False

    @property
    def finished(self) -> bool:
        """Whether every lease is done, of whatever task."""
        return self._leases.finished

    def next(self, hungry: bool) -> Found | None:
        """The next file; None where there is none now. Where it is not `hungry` it takes no further lease."""
        while True:
            for place, line in self._lines:
                if self._current is not None:
                    self._places[self._current.number] = place + 1
                    return _as_it_is(line, self._current, place)
            if self._current is not None:
                self._given[self._current.number] = self._current
                self._current = None
            if not hungry or self._resting:
                return None
            if not self._begin(self._next.pop(0) if self._next else self._leases.take(self._open.keys())):
                self._resting = True
                self._seek()

    def began(self, lease: tuple[int, int]) -> None:
        """A file, told by its lease and its place there, is on its way."""
        number, place = lease
        self._open.setdefault(number, set()).add(place)

    def committed(self, ended: Sequence[tuple[int, int]]) -> None:
        """These files have come to their end, and the ledger has it on disk, with all that had to do with the
        ones that never were on their way. Call it often: what is due is done here."""
        for number, place in ended:
            self._open[number].discard(place)
            if not self._open[number]:
                del self._open[number]
        over = [lease for number, lease in self._given.items() if number not in self._open]
        for lease in over:
            del self._given[lease.number]
            if lease in self._leases.held:
                self._leases.done(lease, self._places.get(lease.number, 0))
            self._places.pop(lease.number, None)
        if over:
            self._write_book()
        if due := self._clock() >= self._leases.due:
            self._give_up(self._leases.beat(self._done()))
        if self._resting and (due or over):
            self._seek()

    def _done(self) -> dict[int, int]:
        """By lease, the places before the first one that is on its way or was not given yet."""
        return {
            number: min(self._open.get(number, ()), default=places) for number, places in self._places.items()
        }

    def _seek(self) -> None:
        if self._begin(self._leases.seek(self._open.keys())):
            self._resting = False

    def _begin(self, lease: Lease | None) -> bool:
        if lease is None:
            return False
        lines = enumerate(self._shares.lines(lease.number))
        self._current, self._lines = lease, islice(lines, lease.begin, None)
        self._places[lease.number] = lease.begin
        self._write_book()
        return True

    def _give_up(self, lost: list[Lease]) -> None:
        """What others have taken over is left to them, but for files that are on their way."""
        if self._current in lost:
            self._current, self._lines = None, iter(())
        self._next = [lease for lease in self._next if lease not in lost]
        for lease in lost:
            self._given.pop(lease.number, None)
            self._places.pop(lease.number, None)

    def _write_book(self) -> None:
        held = [[lease.number, lease.holder, lease.begin] for lease in self._leases.held]
        temporary = self._book.with_name(self._book.name + ".new")
        content = {"manifest": self._shares.digest, "held": held}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._book)


def _as_it_is(line: Line, lease: Lease | None = None, place: int = 0) -> Found:
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
    return replace(found, lease=(lease.number, place), shared=lease.holder > 1, changed=changed)


def _read_book(path: Path, digest: str) -> list[Lease]:
    """The leases that an earlier process held, of this manifest; none where the file says nothing of it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["manifest"] == digest:
            return [Lease(*map(int, held)) for held in content["held"]]
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
