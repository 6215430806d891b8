"""Cutting a corpus into shares of equal work: shards, one for each task, or leases, which tasks take by turn.

Both are made in two passes over the files in the order of the manifest, a block at a time; memory grows with
the number of tasks alone.

**The heavy head.** A file of more than 1/`HEAD` of a task's mean share is placed by itself, the heaviest
first. There are at most `HEAD` of them for each task. **The tail** is cut where it stands, so that a share
lists neighbours, and is told by where it begins.

Shards: each heavy file goes to the shard with the least work so far (LPT; Graham, Bounds on multiprocessing
timing anomalies, 1969), then the tail fills all of them to one level.

Leases: larger ones first, smaller ones towards the end, so that tasks end together whatever their speed.
Rounds of one lease for each task, each of which takes 1/`FACTOR` of what is left (factoring; Hummel,
Schonberg and Flynn, Communications of the ACM 35(8), 1992, after guided self-scheduling, Polychronopoulos
and Kuck, IEEE Transactions on Computers C-36(12), 1987), down to 1/`LAST` of a task's mean share.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: See above. With 4 a lease lost with its node is 1/4 of a task's share at most, which keeps what has to be
#: done twice small, and a node of a quarter of the mean speed doesn't end last with its first lease.
HEAD, FACTOR, LAST = 32, 4, 64


@dataclass(frozen=True, slots=True)
class Block:
    """Files that stand together: `work` is float64 [n], `sizes` their bytes, int64 [n].

    They are the lines `first` and following of the manifest, in the member at byte `offset`.
    """

    offset: int
    first: int
    work: Floats
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Heavy:
    """A file that is placed by itself: line `number`, in the member at `offset` that begins at `first`."""

    work: float
    number: int
    size: int
    offset: int
    first: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one task, or one lease, holds: the heavy files with these indices, and of the lines from number
    `start` to `stop` those that are not heavy; to be found from the member at `offset`, whose first line has
    the number `first`. `files` and `size` (bytes) count all of it."""

    work: float
    files: int
    size: int
    heavy: tuple[int, ...]
    start: int
    stop: int
    offset: int
    first: int


@dataclass
class Survey:
    """What the first pass finds out."""

    tasks: int
    files: int = 0
    size: int = 0
    work: float = 0.0
    #: The heaviest files so far, the least of them first, at most `HEAD` for each task.
    _heap: list[tuple[float, int, Heavy]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """The next files."""
        self.files += len(block.work)
        self.size += int(block.sizes.sum())
        self.work += float(block.work.sum())
        most = HEAD * self.tasks
        # Of no use already if it is light beside what was seen so far: the mean share only grows.
        least = self.work / most
        if len(self._heap) == most:
            least = max(least, self._heap[0][0])
        for at in np.flatnonzero(block.work > least):
            number = block.first + int(at)
            heavy = Heavy(float(block.work[at]), number, int(block.sizes[at]), block.offset, block.first)
            entry = (heavy.work, -number, heavy)
            if len(self._heap) < most:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heappushpop(self._heap, entry)

    def heavy(self) -> list[Heavy]:
        """The files of the head, the heaviest first, of equal ones the first first."""
        least = self.work / (HEAD * self.tasks)
        return [heavy for work, _, heavy in sorted(self._heap, reverse=True) if work > least]


def cut(
    blocks: Iterable[Block], survey: Survey, least_lease: float = 0.0
) -> tuple[list[Heavy], list[Share], list[Share]]:
    """The heavy files, the shards (one for each task, some maybe empty) and the leases, in the order in which
    they are to be taken. `blocks` are those of the survey once more; no lease is to be of less work than
    `least_lease`, but for want of files."""
    heavy = survey.heavy()
    tail = survey.work - sum(each.work for each in heavy)
    if survey.files > len(heavy):
        # Light files beside very heavy ones must not be lost to rounding.
        tail = max(tail, survey.work * 1e-12)
    bins, room = shard_plan([each.work for each in heavy], tail, survey.tasks)
    packs, sizes = lease_plan([each.work for each in heavy], tail, survey.tasks, least_lease)
    shards, leases = _Cuts(room), _Cuts(sizes)
    numbers = np.array(sorted(each.number for each in heavy), dtype=np.int64)
    for block in blocks:
        low, high = np.searchsorted(numbers, (block.first, block.first + len(block.work)))
        lights = np.ones(len(block.work), dtype=bool)
        lights[numbers[low:high] - block.first] = False
        shards.add(block, lights)
        leases.add(block, lights)
    with_head = [_share(heavy, bins[i], part) for i, part in enumerate(shards.parts())]
    head_first = [_share(heavy, pack, _Part()) for pack in packs]
    then_tail = [_share(heavy, (), part) for part in leases.parts()]
    return heavy, with_head, [lease for lease in head_first + then_tail if lease.files]


def shard_plan(heavy: Sequence[float], tail: float, tasks: int) -> tuple[list[tuple[int, ...]], list[float]]:
    """For each shard the heavy files that it gets, by index, and how much of the tail's work."""
    bins: list[list[int]] = [[] for _ in range(tasks)]
    loads = [(0.0, i) for i in range(tasks)]
    for index, work in enumerate(heavy):
        load, least = heapq.heappop(loads)
        bins[least].append(index)
        heapq.heappush(loads, (load + work, least))
    by_number = np.array([load for load, _ in sorted(loads, key=lambda pair: pair[1])])
    level = _level(by_number, tail)
    return [tuple(each) for each in bins], list(np.maximum(0.0, level - by_number))


def _level(loads: Floats, tail: float) -> float:
    """How high the shards stand when the tail is poured over these loads."""
    steps = np.sort(loads)
    below = 0.0
    for count, load in enumerate(steps, 1):
        below += float(load)
        level = (tail + below) / count
        if count == len(steps) or level <= steps[count]:
            return level
    return 0.0


def lease_plan(
    heavy: Sequence[float], tail: float, tasks: int, least: float = 0.0
) -> tuple[list[tuple[int, ...]], list[float]]:
    """The heavy files of each of the first leases, by index; and the work of each lease of the tail after."""
    packs: list[tuple[int, ...]] = []
    sizes: list[float] = []
    left, at = sum(heavy) + tail, 0
    least = max(least, left / (LAST * tasks))
    while at < len(heavy) or tail > 0:
        size = max(least, left / (FACTOR * tasks))
        for _ in range(tasks):
            if at < len(heavy):
                begin, taken = at, 0.0
                while at < len(heavy) and (at == begin or taken + heavy[at] <= size):
                    taken += heavy[at]
                    at += 1
                packs.append(tuple(range(begin, at)))
                left -= taken
            elif tail > 0:
                # What is left of the tail after the last whole lease goes with it.
                taken = size if tail >= 1.5 * size else tail
                sizes.append(taken)
                tail -= taken
                left -= taken
    return packs, sizes


@dataclass(slots=True)
class _Part:
    """A run of the tail."""

    work: float = 0.0
    files: int = 0
    size: int = 0
    start: int = 0
    stop: int = 0
    offset: int = 0
    first: int = 0


class _Cuts:
    """Cuts the tail into parts of this much work each. A file goes to the part in which its middle lies."""

    def __init__(self, room: Sequence[float]) -> None:
        #: Where each part but the last ends, in work from the tail's start.
        self._levels = np.cumsum(np.array(room, dtype=np.float64))[:-1] if room else np.zeros(0)
        self._parts = [_Part() for _ in room]
        self._before = 0.0

    def add(self, block: Block, lights: npt.NDArray[np.bool_]) -> None:
        """The next files, of which `lights` tells those of the tail."""
        where = np.flatnonzero(lights)
        if not len(where) or not self._parts:
            return
        work = block.work[where]
        after = self._before + np.cumsum(work)
        to = np.searchsorted(self._levels, after - work / 2, side="right")
        self._before = float(after[-1])
        borders = [0, *(np.flatnonzero(np.diff(to)) + 1).tolist(), len(to)]
        for begin, end in pairwise(borders):
            part = self._parts[int(to[begin])]
            if not part.files:
                part.start = block.first + int(where[begin])
                part.offset, part.first = block.offset, block.first
            part.stop = block.first + int(where[end - 1]) + 1
            part.files += end - begin
            part.work += float(work[begin:end].sum())
            part.size += int(block.sizes[where[begin:end]].sum())

    def parts(self) -> Iterator[_Part]:
        """All of them, in order."""
        return iter(self._parts)


def _share(heavy: Sequence[Heavy], head: tuple[int, ...], tail: _Part) -> Share:
    return Share(
        work=tail.work + sum(heavy[i].work for i in head),
        files=tail.files + len(head),
        size=tail.size + sum(heavy[i].size for i in head),
        heavy=head,
        start=tail.start,
        stop=tail.stop,
        offset=tail.offset,
        first=tail.first,
    )
