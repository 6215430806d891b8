"""Where a process's time goes: its work, the calls that it exists for, waiting for its neighbours."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

#: A process waits for input (`in`), or for room (`out`).
Side: TypeAlias = Literal["in", "out"]


@dataclass(frozen=True, slots=True)
class Calls:
    """Seconds inside calls of one kind: by the clock, and of the processor, all cores together."""

    seconds: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stats:
    """How a process has spent its time: seconds since it began to work, cumulative.

    `busy_s` is all that it didn't wait. `cpu_s` is of all its threads. `waits` has the waiting by what was
    waited for, and sums to `wait_in_s` + `wait_out_s`: parsers wait for `files`, `credits`, `inference` (its
    channel is full) and `image model` (being looked for); the inference process for `parsers`; the indexer
    for `inference` and `database` (between two tries). `calls` has the time inside what the process is
    there for: `parse`, which also chunks and tokenises; `text` and `image`, the models' calls; `database`,
    the adapter's writes and deletions; `publish`, what the database does once at the end.
    """

    busy_s: float = 0.0
    wait_in_s: float = 0.0
    wait_out_s: float = 0.0
    cpu_s: float = 0.0
    waits: Mapping[str, float] = field(default_factory=dict)
    calls: Mapping[str, Calls] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """All of it: of several processes together, the sum of how long each has lived."""
        return self.busy_s + self.wait_in_s + self.wait_out_s

    def call(self, name: str) -> Calls:
        """The calls of this kind; none is zero."""
        return self.calls.get(name, Calls())

    def __add__(self, other: Stats) -> Stats:
        return self._with(other, 1)

    def __sub__(self, earlier: Stats) -> Stats:
        return self._with(earlier, -1)

    def _with(self, other: Stats, sign: int) -> Stats:
        waits = {
            name: round(self.waits.get(name, 0.0) + sign * other.waits.get(name, 0.0), 3)
            for name in {**self.waits, **other.waits}
        }
        calls = {}
        for name in {**self.calls, **other.calls}:
            mine, theirs = self.call(name), other.call(name)
            calls[name] = Calls(
                round(mine.seconds + sign * theirs.seconds, 3), round(mine.cpu_s + sign * theirs.cpu_s, 3)
            )
        return Stats(
            round(self.busy_s + sign * other.busy_s, 3),
            round(self.wait_in_s + sign * other.wait_in_s, 3),
            round(self.wait_out_s + sign * other.wait_out_s, 3),
            round(self.cpu_s + sign * other.cpu_s, 3),
            waits,
            calls,
        )


#: Of a process that hasn't begun.
NOTHING = Stats(0.0, 0.0, 0.0)


class Clock:
    """Measures one process, whose main thread waits and calls; any thread may read it."""

    def __init__(self) -> None:
        self._moved_cpu_s = 0.0
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """Count from now on."""
        self._began, self._cpu_began = time.monotonic(), time.process_time()
        self._waits: dict[tuple[Side, str], float] = {}
        self._waiting: tuple[Side, str, float] | None = None
        self._calls: dict[str, Calls] = {}
        self._calling: tuple[str, float, float] | None = None

    @property
    def waits(self) -> bool:
        """Whether the main thread waits now."""
        return self._waiting is not None

    @contextmanager
    def waiting(self, side: Side, on: str) -> Iterator[None]:
        """The block waits for `on`."""
        self._waiting = (side, on, time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                passed = time.monotonic() - self._waiting[2]
                self._waits[side, on] = self._waits.get((side, on), 0.0) + passed
                self._waiting = None

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """The block is a call of this kind. Not to be nested."""
        self._calling = (name, time.monotonic(), self._work_cpu())
        try:
            yield
        finally:
            with self._lock:
                self._calls[name] = self._spent(self._calling)
                self._calling = None

    @contextmanager
    def moving(self) -> Iterator[None]:
        """The block, in a thread of its own, moves messages: its processor time is no part of the calls that
        go on meanwhile."""
        began = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self._moved_cpu_s += time.thread_time() - began

    def _work_cpu(self) -> float:
        return time.process_time() - self._moved_cpu_s

    def _spent(self, calling: tuple[str, float, float]) -> Calls:
        """What this kind of call has taken, with the one that goes on."""
        name, began, cpu_began = calling
        before = self._calls.get(name, Calls())
        cpu = max(0.0, self._work_cpu() - cpu_began)
        return Calls(before.seconds + time.monotonic() - began, before.cpu_s + cpu)

    def read(self) -> Stats:
        """All that was counted, with what goes on now."""
        with self._lock:
            now, waits, calls = time.monotonic(), dict(self._waits), dict(self._calls)
            if self._waiting is not None:
                side, on, began = self._waiting
                waits[side, on] = waits.get((side, on), 0.0) + now - began
            if self._calling is not None:
                calls[self._calling[0]] = self._spent(self._calling)
        sides = {each: sum(s for (side, _), s in waits.items() if side == each) for each in ("in", "out")}
        by_name: dict[str, float] = {}
        for (_, on), seconds in waits.items():
            by_name[on] = by_name.get(on, 0.0) + seconds
        busy = max(0.0, now - self._began - sum(sides.values()))
        cpu = time.process_time() - self._cpu_began
        return Stats(busy, sides["in"], sides["out"], cpu, by_name, calls)
