"""Leases: one holder at a time, silence by the observer's clock, races of real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

from engine.fleet.leases import BUCKET, FILE_BYTES, Lease, Leases
from engine.fleet.shared import RealFolder

TTL = 10.0


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def task(folder: Path, number: int, clock: Clock, count: int = 6, tasks: int = 3, ttl: float = TTL) -> Leases:
    """One task of a few."""
    return Leases(RealFolder(folder), count, number, tasks, ttl, {"host": "h"}, clock, random.Random(number))


def beat_for(leases: Leases, clock: Clock, seconds: float, lines: dict[int, int] | None = None) -> None:
    """Signs of life for so long."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now = min(end, leases.due)
        if clock.now >= leases.due:
            leases.beat(lines or {})


def test_each_lease_has_one_holder_and_tasks_begin_with_their_own(tmp_path: Path) -> None:
    clock = Clock()
    tasks = [task(tmp_path, number, clock) for number in range(3)]
    first = [each.take() for each in tasks]
    assert first == [Lease(0, 1), Lease(1, 1), Lease(2, 1)]
    rest = [tasks[i % 3].take() for i in range(4)]
    assert sorted(lease.number for lease in rest if lease) == [3, 4, 5]
    assert rest[3] is None


def test_a_fleet_is_finished_when_every_lease_is_done(tmp_path: Path) -> None:
    clock = Clock()
    one, other = (task(tmp_path, number, clock, count=2) for number in range(2))
    mine, theirs = one.take(), other.take()
    assert mine and theirs
    assert one.done(mine, 5)
    assert (one.take(), one.seek()) == (None, None)
    early = one.finished
    assert other.done(theirs, 7)
    assert (one.seek(), early, one.finished) == (None, False, True)
    told = (tmp_path / "0" / "1.done").read_text()
    assert json.loads(told)["lines"] == 7 and len(told) == FILE_BYTES


def test_a_silent_holder_loses_its_lease_and_its_successor_begins_where_it_was(tmp_path: Path) -> None:
    clock = Clock()
    dead, heir = (task(tmp_path, number, clock, count=2) for number in range(2))
    lease, own = dead.take(), heir.take()
    assert lease and own
    clock.now = dead.due
    dead.beat({lease.number: 41})
    beat_for(heir, clock, TTL - 1)
    assert heir.seek() is None
    beat_for(heir, clock, 2 * TTL)
    taken = heir.take()
    assert taken == Lease(0, 2) and taken.begin == 41
    assert dead.beat({}) == [lease] and dead.held == []
    assert (tmp_path / "0" / "0.2").exists()


def test_a_holder_that_gives_signs_keeps_its_lease_however_long(tmp_path: Path) -> None:
    clock = Clock()
    slow, other = (task(tmp_path, number, clock, count=2) for number in range(2))
    assert slow.take() and other.take()
    for _ in range(40):
        clock.now += TTL / 4
        assert slow.beat({}) == []
        assert other.beat({}) == []
        assert other.seek() is None


def test_wall_clocks_play_no_part(tmp_path: Path) -> None:
    clock = Clock()
    skewed, other = (task(tmp_path, number, clock, count=2) for number in range(2))
    lease = skewed.take()
    assert lease and other.take()
    for year in range(12):
        skewed.beat({})
        # Its host, or the server, is in another century; each time in another one.
        os.utime(tmp_path / lease.name, (10**9 - year, 10**9 - year))
        clock.now += TTL / 3
        other.beat({})
    assert other.seek() is None


def test_a_requeued_task_goes_on_with_what_it_held_unless_others_have_it(tmp_path: Path) -> None:
    clock = Clock()
    before, heir = (task(tmp_path, number, clock, count=2) for number in range(2))
    lease = before.take()
    assert lease and heir.take()
    again = task(tmp_path, 0, clock, count=2)
    again.resume([lease])
    assert again.held == [lease]
    beat_for(heir, clock, 3 * TTL)
    freed = task(tmp_path, 0, clock, count=2)
    freed.resume([lease])
    assert freed.held == [Lease(0, 2)]
    beat_for(heir, clock, 3 * TTL)
    assert heir.take() == Lease(0, 3)
    late = task(tmp_path, 0, clock, count=2)
    late.resume([Lease(0, 2)])
    assert late.held == []


def test_a_lease_that_changed_hands_is_never_claimed_as_new(tmp_path: Path) -> None:
    clock = Clock()
    dead, heir = (task(tmp_path, number, clock, count=2) for number in range(2))
    assert dead.take() and heir.take()
    beat_for(heir, clock, 3 * TTL)
    assert heir.take() == Lease(0, 2)
    assert task(tmp_path, 0, clock, count=2).take() is None


def test_the_last_lease_of_many_is_found_without_a_look_at_every_one(tmp_path: Path) -> None:
    clock = Clock()
    count = 2 * BUCKET + 1
    leases = task(tmp_path, 0, clock, count=count, tasks=1)
    taken = set()
    while lease := leases.take():
        taken.add(lease.number)
        leases.done(lease, 1)
    assert taken == set(range(count))
    assert leases.seek() is None and leases.finished


def contend(folder: str, number: int, tasks: int, count: int, log: str, start: Barrier) -> None:
    """A process that takes leases until all are done; the first two die with their second one in hand."""
    start.wait(120)
    begun = 0
    leases = Leases(RealFolder(Path(folder)), count, number, tasks, 1.0, {"pid": os.getpid()})
    resting = False
    with open(log, "a", encoding="utf-8", buffering=1) as lines:
        while not leases.finished:
            lease = None if resting else leases.take()
            if time.monotonic() >= leases.due:
                leases.beat({})
                lease = lease or leases.seek()
            if lease is None:
                resting = True
                time.sleep(0.01)
                continue
            resting = False
            lines.write(f"{lease.number} {lease.holder}\n")
            begun += 1
            if number < 2 and begun == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)
            leases.done(lease, 1)


def test_processes_that_contend_and_die_take_each_lease_once_for_each_holder(tmp_path: Path) -> None:
    tasks = 6
    context = multiprocessing.get_context("spawn")
    count = 60
    start = context.Barrier(tasks)
    logs = [str(tmp_path / f"log{number}") for number in range(tasks)]
    processes = [
        # Ended with the test, should they not end by themselves.
        context.Process(
            target=contend,
            args=(str(tmp_path / "leases"), number, tasks, count, logs[number], start),
            daemon=True,
        )
        for number in range(tasks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [-9, -9, 0, 0, 0, 0]
    taken = Counter(line for log in logs for line in Path(log).read_text().splitlines())
    assert set(taken.values()) == {1}, "two processes had one lease at once"
    assert {int(line.split()[0]) for line in taken} == set(range(count))
    again = sorted(int(line.split()[0]) for line in taken if line.split()[1] != "1")
    assert len(again) == 2, "the leases of the two that were killed, and no others"
    names = os.listdir(tmp_path / "leases" / "0")
    assert sorted(names) == sorted(f"{number}.done" for number in range(count))
