"""Leases: tasks take pieces of one manifest by turns, by nothing but files in a folder that all of them see.

**Names are the state.** Lease `n` is in folder `n // BUCKET`: no file, and it is free; `n.1`, and its first
holder has it; `n.1-`, and that one was found silent; `n.2`, the second one has it; `n.done`. A step is
one atomic creation or renaming, so of any number of tasks that try exactly one makes it, and one listing of a
folder tells the state of `BUCKET` leases.

**A lease runs out when its holder is silent**, by the observer's own clock: a holder writes its file four
times in `ttl` seconds, and whoever sees the same time of the file for `ttl` seconds renames it to `n.g-`.
Clocks of hosts are never compared. Each task watches `WATCHED` leases of others at a time, and others as soon
as those give a sign: one that gives none is soon watched by somebody, and stays watched.

**What is done stays done.** With its sign of life a holder writes how many lines, from the lease's first one
on, have come to their end in its ledger. Who takes the lease over begins behind them, so that what is done
twice is some seconds' work; it is written under the same ids.

**A holder that was wrongly held for dead** finds its file gone at its next sign of life, and gives up what it
has not begun.

**Load.** A sign of life writes one file for each lease that is held and looks at `WATCHED` others; in `ttl`
seconds there is one listing more. Taking and ending a lease are a listing and some ten operations. No listing
is of more than `BUCKET` names; a folder whose leases are all done is never listed again. Who finds nothing
left to take lists the folders that are not done with each sign of life, until they are.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from engine.fleet.shared import SharedFolder

#: Leases of one folder.
BUCKET = 500

#: Signs of life in `ttl` seconds; leases of others that a task watches at a time.
BEATS, WATCHED = 4, 2

#: What a lease's name ends with when it is done; when its holder was silent.
DONE, FREED = "done", "-"

#: Bytes of a lease's file: always the same, so that it is written at once.
FILE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Lease:
    """Lease `number`, held by its holder number `holder`, from 1: above 1, others had it before, and the
    first `begin` of its lines are done."""

    number: int
    holder: int
    begin: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        """Its file."""
        return f"{self.number // BUCKET}/{self.number}.{self.holder}"


@dataclass(slots=True)
class _Bucket:
    """What a listing of a folder has shown."""

    free: list[int]
    freed: list[Lease]
    held: list[Lease]
    done: int


@dataclass(slots=True)
class _Watch:
    """Since when, by our clock, the file of a lease has had this time."""

    stamp: int
    since: float


class Leases:
    """What one task does with leases. Nothing here waits; `due` says when to call `beat` again.

    `count` is their number, `owner` is written into the files; this is task `task` of `tasks`. Raises what
    the folder raises.
    """

    def __init__(
        self,
        folder: SharedFolder,
        count: int,
        task: int,
        tasks: int,
        ttl: float,
        owner: Mapping[str, object],
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._folder = folder
        self._count = count
        self._tasks = tasks
        self._ttl = ttl
        self._owner = owner
        self._clock = clock
        # Tasks that are started together shall not do the same at the same time for ever.
        self._chance = chance or random.Random()
        self._buckets = -(-count // BUCKET)
        #: The lease that this task tries first, so that a thousand tasks that start at once don't collide.
        self._own: int | None = task if task < count else None
        #: Folders below this one have no lease that nobody ever had; those in `_ended` are all done.
        self._fresh = 0
        self._ended: set[int] = set()
        self._watched: dict[Lease, _Watch] = {}
        #: Leases of others, to be watched next, and when the listing that has shown them is too old.
        self._others: list[Lease] = []
        self._relist = clock()
        #: Leases that this task has found silent, or met as such.
        self._freed: list[Lease] = []
        self.held: list[Lease] = []
        self.due = clock() + self._interval()

    @property
    def finished(self) -> bool:
        """Whether every lease is known to be done."""
        return len(self._ended) == self._buckets

    def resume(self, leases: Iterable[Lease]) -> None:
        """Hold again what an earlier process of this task held, as far as nobody has taken it over."""
        for lease in leases:
            again = Lease(lease.number, lease.holder + 1, lease.begin)
            if self._folder.write(lease.name, self._told(lease, lease.begin)):
                self.held.append(lease)
            elif self._folder.move(lease.name + FREED, again.name):
                self.held.append(again)

    def take(self, without: Collection[int] = ()) -> Lease | None:
        """The next lease, None where there is none now. Those in `without` are not taken over."""
        own, self._own = self._own, None
        # Looked at before, like any other: its first file's name is free again when it has changed hands.
        if own is not None and own in self._look(own // BUCKET).free and (lease := self._claim(own)):
            return lease
        if lease := self._take_freed(without):
            return lease
        while self._fresh < self._buckets:
            bucket = self._look(self._fresh)
            while bucket.free:
                # Any of the next few, one for each task: they are of one size.
                number = bucket.free.pop(self._chance.randrange(min(len(bucket.free), self._tasks)))
                if lease := self._claim(number):
                    return lease
            self._fresh += 1
        return self._take_freed(without)

    def seek(self, without: Collection[int] = ()) -> Lease | None:
        """As `take`, where that found none: look through every folder that is not done, at each beat."""
        for bucket in range(self._buckets):
            if bucket not in self._ended:
                self._look(bucket)
        return self._take_freed(without)

    def beat(self, lines: Mapping[int, int]) -> list[Lease]:
        """Give a sign of life, and look for those who give none. Returns what others have taken over.

        `lines` has by lease how many of its lines are done, from the first one on, and in a ledger on disk.
        """
        self.due = self._clock() + self._interval()
        lost = [
            lease
            for lease in self.held
            if not self._folder.write(lease.name, self._told(lease, lines.get(lease.number, lease.begin)))
        ]
        self.held = [lease for lease in self.held if lease not in lost]
        self._watch()
        return lost

    def done(self, lease: Lease, lines: int) -> bool:
        """The lease and its lines have come to their end; False where another task has it by now."""
        self.held.remove(lease)
        self._folder.write(lease.name, self._told(lease, lines))
        return self._folder.move(lease.name, f"{lease.number // BUCKET}/{lease.number}.{DONE}")

    # Steps

    def _interval(self) -> float:
        return self._ttl / BEATS * self._chance.uniform(0.8, 1.0)

    def _claim(self, number: int) -> Lease | None:
        lease = Lease(number, 1)
        if not self._folder.create(lease.name, self._told(lease, 0)):
            return None
        self.held.append(lease)
        return lease

    def _take_freed(self, without: Collection[int]) -> Lease | None:
        kept: list[Lease] = []
        taken = None
        while self._freed and taken is None:
            old = self._freed.pop(0)
            new = Lease(old.number, old.holder + 1)
            if old.number in without:
                kept.append(old)
            elif self._folder.move(old.name + FREED, new.name):
                new = replace(new, begin=_lines_done(self._folder.read(new.name)))
                self._folder.write(new.name, self._told(new, new.begin))
                self.held.append(new)
                taken = new
        self._freed += kept
        return taken

    def _told(self, lease: Lease, lines: int) -> str:
        now = time.time()
        deadline = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + self._ttl))
        told = {"lines": lines, "holder": lease.holder, "deadline": deadline, **self._owner}
        # A long name is for people, and may be cut off.
        return json.dumps(told)[: FILE_BYTES - 1].ljust(FILE_BYTES - 1) + "\n"

    def _look(self, number: int) -> _Bucket:
        """List a folder, and remember what is to be remembered of it."""
        first, last = number * BUCKET, min(self._count, (number + 1) * BUCKET)
        found = _Bucket([], [], [], 0)
        known: set[int] = set()
        for name in self._folder.names(str(number)):
            head, _, state = name.partition(".")
            if not head.isdigit():
                continue
            known.add(int(head))
            if state == DONE:
                found.done += 1
            elif state.rstrip(FREED).isdigit():
                lease = Lease(int(head), int(state.rstrip(FREED)))
                (found.freed if state.endswith(FREED) else found.held).append(lease)
        found.free = [each for each in range(first, last) if each not in known]
        if found.done == last - first:
            self._ended.add(number)
        self._freed += [lease for lease in found.freed if lease not in self._freed]
        return found

    def _watch(self) -> None:
        """Look again at what is watched, and for something to watch instead of what gave a sign."""
        now = self._clock()
        for lease, watch in list(self._watched.items()):
            stamp = self._folder.stamp(lease.name)
            if stamp == watch.stamp and now - watch.since < self._ttl:
                continue
            del self._watched[lease]
            if stamp == watch.stamp and self._folder.move(lease.name, lease.name + FREED):
                self._freed.append(lease)
        begun = [b for b in range(min(self._fresh + 1, self._buckets)) if b not in self._ended]
        if begun and len(self._watched) < WATCHED and (now >= self._relist or not self._others):
            self._others = self._look(self._chance.choice(begun)).held
            self._chance.shuffle(self._others)
            self._relist = now + self._ttl
        while self._others and len(self._watched) < WATCHED:
            lease = self._others.pop()
            if lease in self.held or lease in self._watched:
                continue
            stamp = self._folder.stamp(lease.name)
            if stamp is not None:
                self._watched[lease] = _Watch(stamp, now)


def _lines_done(text: str | None) -> int:
    """How many lines an earlier holder has told to be done; 0 where that can't be read."""
    match = re.match(r'\{"lines": (\d+),', text or "")
    return int(match[1]) if match else 0
