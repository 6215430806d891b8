"""What is simulated: files of heavy-tailed sizes, tasks of varying speed, and when each task is down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Sizes: a log-normal body (median 8 kB), and a Pareto tail of every 200th file (from 1 MB, exponent 1.2),
#: none above 100 MB: with 10,000 files for each task, a seventh of a share. No way to share out whole
#: files could do well with larger ones.
MEDIAN, SIGMA, TAIL_SHARE, TAIL_LEAST, TAIL_EXPONENT, MOST = 8e3, 1.5, 1 / 200, 1e6, 1.2, 100e6

#: How far a file's work is from its estimate, and a task's speed from the mean (standard deviations of
#: logarithms); one task in 20 has half its speed.
WORK_SIGMA, SPEED_SIGMA, SLOW_SHARE, SLOW = 0.2, 0.15, 1 / 20, 0.5

#: Mean hours of a task at work between two preemptions, which drain, and two failures, which lose `LOST_S`
#: seconds of work.
PREEMPTED_H, FAILED_H, LOST_S = 8.0, 100.0, 15.0

#: Mean seconds that a task waits until it runs again; of one in 20 this many times as many.
DOWN_S, LONG_SHARE, LONG = 300.0, 1 / 20, 12


@dataclass(frozen=True)
class Outage:
    """A task is down from the second `begin` to `end`; `hard`: without a warning."""

    begin: float
    end: float
    hard: bool


@dataclass(frozen=True)
class World:
    """`estimated` and `actual` are each file's work in seconds of a task of speed 1, float64 [files]."""

    estimated: Floats
    actual: Floats
    speeds: Floats
    outages: Sequence[Sequence[Outage]]

    def ideal(self) -> float:
        """Seconds of a scheduler that knows all, loses nothing and can split every file; never less than the
        largest file takes the fastest task."""
        work = float(self.actual.sum())
        low, high = 0.0, 1e9
        for _ in range(80):
            middle = (low + high) / 2
            done = sum(
                speed * (middle - down(self.outages[task], middle)) for task, speed in enumerate(self.speeds)
            )
            low, high = (low, middle) if done >= work else (middle, high)
        return max(high, float(self.actual.max() / self.speeds.max()))


def down(outages: Sequence[Outage], until: float) -> float:
    """Seconds of outages before that moment."""
    return sum(max(0.0, min(until, each.end) - each.begin) for each in outages)


def make_world(
    files: int, tasks: int, hours: float, seed: int, largest: float = MOST, sigma: float = WORK_SIGMA
) -> World:
    """A world in which tasks of mean speed that are never down would take about so many hours; no file has
    more than `largest` bytes, and its work is off its estimate by `sigma`."""
    chance = np.random.default_rng(seed)
    sizes = chance.lognormal(np.log(MEDIAN), SIGMA, files)
    tail = chance.random(files) < TAIL_SHARE
    sizes[tail] = TAIL_LEAST * (1 + chance.pareto(TAIL_EXPONENT, int(tail.sum())))
    sizes = np.minimum(sizes, largest)
    # Folders hold what is alike: sizes wander along the listing, so that neighbours are no mean of all.
    drift = np.repeat(chance.lognormal(0, 0.7, -(-files // 1000)), 1000)[:files]
    sizes = np.minimum(sizes * drift, largest)
    estimated = sizes + 4096.0
    estimated *= hours * 3600 * tasks / estimated.sum()
    actual = estimated * chance.lognormal(-(sigma**2) / 2, sigma, files)
    speeds = chance.lognormal(0, SPEED_SIGMA, tasks)
    speeds[chance.random(tasks) < SLOW_SHARE] *= SLOW
    outages = [_outages(chance, 20 * hours * 3600) for _ in range(tasks)]
    return World(estimated, actual, speeds, outages)


def _outages(chance: np.random.Generator, until: float) -> list[Outage]:
    found: list[Outage] = []
    now = 0.0
    hard_share = (1 / FAILED_H) / (1 / FAILED_H + 1 / PREEMPTED_H)
    mean = 3600 / (1 / FAILED_H + 1 / PREEMPTED_H)
    while now < until:
        begin = now + float(chance.exponential(mean))
        length = float(chance.exponential(DOWN_S)) * (LONG if chance.random() < LONG_SHARE else 1)
        found.append(Outage(begin, begin + length, bool(chance.random() < hard_share)))
        now = begin + length
    return found
