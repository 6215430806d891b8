"""The ways to share out the work, each run through a world: static shards, and leases by their own code."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.fleet.folder import SimulatedFolder
from benchmarks.fleet.world import LOST_S, Floats, Outage, World
from engine.fleet.leases import Lease, Leases
from engine.fleet.shards import Heavy, Share
from engine.stages.discover import shard_of

#: Seconds that a task takes to start, each time; and to turn from one lease to the next.
START_S, TURN_S = 20.0, 1.0


@dataclass
class Outcome:
    """How a strategy ended. Seconds; `twice` is work that was done more than once, in seconds at speed 1."""

    name: str
    seconds: float
    twice: float = 0.0
    requests: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    takeovers: int = 0
    #: When each task had its last work done.
    ends: list[float] = field(default_factory=list)


def hash_shards(world: World) -> Floats:
    """The work of each shard by the hash of invented paths."""
    tasks, count = len(world.speeds), len(world.actual)
    shards = np.fromiter((shard_of(f"/corpus/{i // 1000}/{i}", tasks) for i in range(count)), np.int64, count)
    return np.bincount(shards, weights=world.actual, minlength=tasks).astype(np.float64)


def cut_shards(world: World, heavy: Sequence[Heavy], shares: Sequence[Share]) -> Floats:
    """The work of each share that a plan has cut."""
    tail = _Tail(world, heavy)
    return np.array([_work(world, heavy, tail, share) for share in shares])


def static(name: str, world: World, work: Iterable[float]) -> Outcome:
    """Each task does its own share, whatever becomes of the others."""
    outcome = Outcome(name, 0.0)
    for task, amount in enumerate(work):
        end, twice = _alone(amount, float(world.speeds[task]), world.outages[task])
        outcome.ends.append(end)
        outcome.twice += twice
    outcome.seconds = max(outcome.ends)
    return outcome


def _alone(work: float, speed: float, outages: Sequence[Outage]) -> tuple[float, float]:
    """When a task has done so much work, and how much of it twice."""
    now, twice = 0.0, 0.0
    for outage in outages:
        begin = now + START_S
        if begin + work / speed <= outage.begin:
            return begin + work / speed, twice
        done = max(0.0, outage.begin - begin) * speed
        lost = min(done, LOST_S * speed) if outage.hard else 0.0
        work, twice, now = work - done + lost, twice + lost, outage.end
    return now + START_S + work / speed, twice


class _Tail:
    """The work of the files that are not heavy, summed from the manifest's start."""

    def __init__(self, world: World, heavy: Sequence[Heavy]) -> None:
        lights = np.ones(len(world.actual), dtype=bool)
        self.numbers = np.array(sorted(each.number for each in heavy), dtype=np.int64)
        lights[self.numbers] = False
        self.sums = np.concatenate([[0.0], np.cumsum(world.actual[lights])])

    def place(self, number: int) -> int:
        """How many files of the tail stand before that line."""
        return number - int(np.searchsorted(self.numbers, number))


def _work(world: World, heavy: Sequence[Heavy], tail: _Tail, share: Share) -> float:
    head = sum(float(world.actual[heavy[i].number]) for i in share.heavy)
    return head + float(tail.sums[tail.place(share.stop)] - tail.sums[tail.place(share.start)])


class _Pieces:
    """How far a lease is, in files and in work: a run of sums, from 0."""

    def __init__(self, world: World, heavy: Sequence[Heavy], leases: Sequence[Share]) -> None:
        self._world, self._heavy, self._leases = world, heavy, leases
        self._tail = _Tail(world, heavy)

    def sums(self, number: int) -> npt.NDArray[np.float64]:
        """The work of the first 0, 1, 2, … files of a lease."""
        lease = self._leases[number]
        if lease.heavy:
            works = [self._world.actual[self._heavy[i].number] for i in lease.heavy]
            return np.concatenate([[0.0], np.cumsum(works)])
        begin, end = self._tail.place(lease.start), self._tail.place(lease.stop)
        sums: Floats = self._tail.sums[begin : end + 1] - self._tail.sums[begin]
        return sums


class Fleet:
    """Tasks that take leases, in simulated time. Run once."""

    def __init__(self, world: World, heavy: Sequence[Heavy], shares: Sequence[Share], ttl: float,
                 seed: int) -> None:  # fmt: skip
        self.now = 0.0
        self.world = world
        self.pieces = _Pieces(world, heavy, shares)
        self.folder = SimulatedFolder(lambda: self.now)
        self.outcome = Outcome("leases", 0.0)
        self.count, self.ttl, self.seed = len(shares), ttl, seed
        self.done: set[int] = set()
        #: The work of each lease that is in some ledger, by its first lines; whatever comes twice shows here.
        self.covered: dict[int, float] = {}
        self._events: list[tuple[float, int, _Task, int]] = []
        self._order = 0

    def wake(self, task: _Task, at: float) -> None:
        """Have the task go on at that moment, instead of any moment that was set before."""
        task.ticket += 1
        self._order += 1
        heapq.heappush(self._events, (at, self._order, task, task.ticket))

    def run(self) -> Outcome:
        """To the end of the last lease."""
        tasks = [_Task(self, number) for number in range(len(self.world.speeds))]
        for task in tasks:
            self.wake(task, START_S)
        while len(self.done) < self.count:
            at, _, task, ticket = heapq.heappop(self._events)
            if ticket == task.ticket:
                self.now = at
                task.go_on()
        self.outcome.seconds = self.now
        self.outcome.ends = [task.last for task in tasks]
        self.outcome.requests, self.outcome.operations = self.folder.seconds, self.folder.operations
        return self.outcome


class _Task:
    """One task: up or down, at a lease or waiting for one."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet, self._number = fleet, number
        self._speed = float(fleet.world.speeds[number])
        self._outages = iter(fleet.world.outages[number])
        self._outage = next(self._outages)
        self._chance = random.Random(f"{fleet.seed} {number}")
        self._leases: Leases | None = None
        self._held: list[Lease] = []
        #: Work of the lease at hand that is in the ledger, and when its last part was begun.
        self._ledger: dict[int, float] = {}
        self._lease: Lease | None = None
        self._sums: npt.NDArray[np.float64] = np.zeros(1)
        self._at = 0.0
        self._since = 0.0
        self.ticket = 0
        self.last = 0.0

    def go_on(self) -> None:
        """Something is due: the end of a lease, a sign of life, an outage, its end."""
        now = self._fleet.now
        if now >= self._outage.begin:
            self._go_down()
            return
        if self._leases is None:
            self._come_up()
        leases = self._up()
        self._advance(now)
        if self._lease is not None and self._at >= self._sums[-1] - 1e-9:
            self._end(self._lease)
        if now >= leases.due:
            lost = leases.beat({} if self._lease is None else {self._lease.number: self._lines()})
            if self._lease in lost:
                self._lease = None
            if self._lease is None:
                self._take(leases.seek())
        if self._lease is None:
            self._take(leases.take())
        due = leases.due
        if self._lease is not None:
            due = min(due, self._since + (self._sums[-1] - self._at) / self._speed)
        self._fleet.wake(self, min(max(due, now), self._outage.begin))

    def _up(self) -> Leases:
        if self._leases is None:
            raise RuntimeError("a task that is down was asked to work")
        return self._leases

    def _come_up(self) -> None:
        fleet = self._fleet
        self._leases = Leases(
            fleet.folder,
            fleet.count,
            self._number,
            len(fleet.world.speeds),
            fleet.ttl,
            {"task": self._number},
            lambda: fleet.now,
            self._chance,
        )
        self._leases.resume(self._held)
        if self._leases.held:
            self._take(self._leases.held[0])

    def _take(self, lease: Lease | None) -> None:
        self._lease = lease
        if lease is None:
            return
        self._fleet.outcome.takeovers += lease.holder > 1 and lease.number not in self._ledger
        self._sums = self._fleet.pieces.sums(lease.number)
        begin = float(self._sums[min(lease.begin, len(self._sums) - 1)])
        self._at = max(begin, self._ledger.get(lease.number, 0.0))
        self._since = self._fleet.now + TURN_S

    def _advance(self, now: float) -> None:
        """Work until now; what somebody had done before counts as done twice."""
        if self._lease is None or now <= self._since:
            return
        before, self._at = self._at, min(self._at + (now - self._since) * self._speed, self._sums[-1])
        self._since = now
        covered = self._fleet.covered.get(self._lease.number, 0.0)
        self._fleet.outcome.twice += max(0.0, min(self._at, covered) - before)
        self._fleet.covered[self._lease.number] = max(covered, self._at)
        self._ledger[self._lease.number] = self._at

    def _lines(self) -> int:
        """Files of the lease that are whole in the ledger, but for those of the last seconds."""
        sure = self._at - LOST_S * self._speed
        return max(0, int(np.searchsorted(self._sums, sure, side="right")) - 1)

    def _end(self, lease: Lease) -> None:
        self._up().done(lease, len(self._sums) - 1)
        self._fleet.done.add(lease.number)
        self._lease, self.last = None, self._fleet.now
        self._ledger.pop(lease.number, None)

    def _go_down(self) -> None:
        self._advance(self._outage.begin)
        if self._lease is not None and self._outage.hard:
            self._ledger[self._lease.number] = max(0.0, self._at - LOST_S * self._speed)
        self._held = list(self._leases.held) if self._leases else []
        self._leases, self._lease = None, None
        up = self._outage.end + START_S
        self._outage = next(self._outages)
        self._fleet.wake(self, up)
