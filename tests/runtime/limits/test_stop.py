"""What ends a run early, or slows it down: signals, a database that stays away, memory that is scarce."""

from __future__ import annotations

import os
import signal
import time

import pytest

from engine.errors import EngineError
from engine.runtime.limits.stop import (
    DISK_FULL_DEADLINE_S,
    RAM_REST_DEADLINE_S,
    DatabaseWait,
    RamGuard,
    RunStoppedError,
    StopRequest,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, to be set."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


# Memory


def test_below_85_percent_all_of_the_buffer_may_be_used_and_above_95_none() -> None:
    guard = RamGuard()
    assert [round(guard.share(total, 1000), 3) for total in (0, 850, 900, 940, 950, 2000)] == [
        1.0, 1.0, 0.5, 0.1, 0.0, 0.0,
    ]  # fmt: skip


def test_memory_that_stays_taken_with_nothing_on_its_way_ends_the_run(clock: list[float]) -> None:
    guard = RamGuard()
    for _ in range(3):
        guard.check(960, 1000, stalled=True)
        clock[0] += RAM_REST_DEADLINE_S / 3
    guard.check(960, 1000, stalled=False)  # something came through
    clock[0] += RAM_REST_DEADLINE_S - 1
    guard.check(960, 1000, stalled=True)
    clock[0] += 2
    with pytest.raises(EngineError, match=r"--max-ram 1000: the processes take 960 bytes .* at least 1129"):
        guard.check(960, 1000, stalled=True)


# The database


def test_a_database_is_waited_for_until_its_deadline_and_a_full_disk_for_less(clock: list[float]) -> None:
    wait = DatabaseWait(900)
    wait.note("refused")
    clock[0] += 899
    wait.check()
    wait.note("still refused")
    clock[0] += 2
    with pytest.raises(RunStoppedError, match=r"did not answer for 900 s \(still refused\)"):
        wait.check()
    wait.note(None)
    wait.check()
    wait.note("the disk is full", disk_full=True)
    clock[0] += DISK_FULL_DEADLINE_S - 1
    wait.check()
    clock[0] += 2
    with pytest.raises(RunStoppedError, match="the disk is full; free some space"):
        wait.check()
    wait.forget()
    wait.check()


# Signals


def test_the_first_signal_begins_a_drain_once_and_the_grace_ends_it(clock: list[float]) -> None:
    stop = StopRequest(grace=60)
    restore = stop.catch()
    try:
        assert (stop.asked, stop.begins(), stop.draining_s) == (False, None, 0.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.asked
        assert (stop.begins(), stop.begins()) == ("SIGUSR1", None)
        clock[0] += 59
        stop.check()
        assert stop.draining_s == 59
        clock[0] += 2
        with pytest.raises(RunStoppedError, match="longer than --grace 60 s"):
            stop.check()
    finally:
        restore()


@pytest.mark.parametrize(
    ("limit_s", "begins_s", "grace_s"),
    [(3600, 3600 - 75, 60), (120, 90, 22.5), (60, 45, 11.2)],
    ids=["long", "short", "shorter than the grace"],
)
def test_a_drain_begins_and_ends_before_the_time_limit_of_the_job(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, limit_s: float, begins_s: float, grace_s: float
) -> None:
    start = clock[0]
    monkeypatch.setattr(time, "time", lambda: 1e9 + clock[0] - start)
    stop = StopRequest(grace=60, ends_at=1e9 + limit_s)
    clock[0] += begins_s - 1
    assert (stop.asked, stop.begins()) == (False, None)
    stop.check_asked()
    clock[0] += 1
    assert stop.asked
    assert (stop.begins(), stop.begins()) == ("the job's time limit is near", None)
    assert stop.grace == pytest.approx(grace_s, abs=0.1)
    assert stop.grace < limit_s - begins_s
    with pytest.raises(RunStoppedError, match="near the time limit of its job"):
        stop.check_asked()
    clock[0] += grace_s + 1
    with pytest.raises(RunStoppedError, match="longer than --grace"):
        stop.check()


def test_a_second_ctrl_c_is_urgent_and_other_signals_are_not(clock: list[float]) -> None:
    stop = StopRequest(grace=60)
    restore = stop.catch()
    try:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        urgent = [stop.urgent]
        stop.check()
        os.kill(os.getpid(), signal.SIGINT)
        urgent.append(stop.urgent)
        assert urgent == [False, True]
        with pytest.raises(RunStoppedError, match="interrupted twice"):
            stop.check()
    finally:
        restore()
