"""Who is stuck, whom the kernel shot, which file is to blame, and when starting again is given up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import EngineError
from engine.runtime.limits.deaths import (
    FUTILE_RESTARTS,
    STOPPED_DEADLINE_S,
    STUCK_DEADLINE_S,
    Away,
    OomKills,
    Restarts,
    crash,
    verdict,
)
from engine.runtime.process.child import Child
from engine.runtime.process.mailbox import AWAY_S, ORPHANED, OUT_OF_MEMORY
from tests.runtime import children

#: Seconds after which a child counts as hung.
HANG_S = 120.0

NO_KILLS = OomKills(Path("/nonexistent"))


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def cgroup(root: Path, file: str, line: str, text: str) -> Path:
    """A file system that names a control group and its counters."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line)
    (root / file).parent.mkdir(parents=True)
    (root / file).write_text(text)
    return root / file


# Stuck


def test_a_child_that_works_or_waits_is_not_stuck(start: Callable[..., Child]) -> None:
    child = start(children.echo)
    wait_for(lambda: list(child.receive()) == [] and child.stats.wait_in_s > 0)
    assert verdict(child, time.monotonic()) is None
    assert verdict(child, time.monotonic(), file_timeout=5) is None


def test_work_without_progress_is_told_by_the_child_itself(start: Callable[..., Child]) -> None:
    child = start(children.busy)

    def found() -> object:
        list(child.receive())
        return verdict(child, time.monotonic(), file_timeout=1.5)

    wait_for(found)
    why = verdict(child, time.monotonic(), file_timeout=1.5)
    assert why is not None
    assert (why.reason, why.blames_file) == ("no progress for 1.5 s (--file-timeout)", True)
    assert verdict(child, time.monotonic()) is None  # no file is at work


def test_a_stopped_child_is_replaced_and_its_file_not_blamed(start: Callable[..., Child]) -> None:
    child = start(children.busy)
    os.kill(child.pid, signal.SIGSTOP)
    wait_for(lambda: child.stopped)
    now = time.monotonic()
    assert verdict(child, now + 5, file_timeout=2) is None
    why = verdict(child, now + STOPPED_DEADLINE_S + 10, file_timeout=2)
    assert why is not None
    assert why.reason.startswith("stopped for")
    assert not why.blames_file


def test_silence_is_counted_to_the_last_deadline(start: Callable[..., Child]) -> None:
    child = start(children.busy)
    later = time.monotonic() + STUCK_DEADLINE_S + 10
    why = verdict(child, later)
    assert why is not None
    assert why.reason == f"no progress for {STUCK_DEADLINE_S:g} s"
    child.excuse()
    assert verdict(child, time.monotonic()) is None


def test_a_pause_of_the_whole_process_is_noticed() -> None:
    away = Away()
    now = time.monotonic()
    assert not away.look(now + 1)
    assert away.look(now + 2 + AWAY_S)
    assert not away.look(now + 3 + AWAY_S)


# Blame


@pytest.mark.parametrize(
    ("how", "blamed"),
    [
        (signal.SIGKILL, None),
        (signal.SIGSEGV, "its parser was killed by SIGSEGV"),
        (signal.SIGBUS, "its parser was killed by SIGBUS"),
        (signal.SIGTRAP, "its parser was killed by SIGTRAP"),
        (signal.SIGSYS, "its parser was killed by SIGSYS"),
        (signal.SIGABRT, "its parser was killed by SIGABRT, possibly at the limit of --parser-memory"),
    ],
)
def test_a_crash_blames_the_file_and_a_kill_from_outside_does_not(
    start: Callable[..., Child], how: signal.Signals, blamed: str | None
) -> None:
    child = start(children.busy)
    os.kill(child.pid, how)
    child.process.join(HANG_S)
    assert crash(child, NO_KILLS) == blamed


def test_memory_blames_the_file(start: Callable[..., Child], tmp_path: Path) -> None:
    child = start(children.exits, OUT_OF_MEMORY)
    child.process.join(HANG_S)
    assert crash(child, NO_KILLS) == "its parser ran out of memory (--parser-memory)"


@pytest.mark.parametrize("code", [0, 1])
def test_a_library_that_ends_its_process_blames_the_file(start: Callable[..., Child], code: int) -> None:
    child = start(children.exits, code)
    child.process.join(HANG_S)
    assert crash(child, NO_KILLS) == f"its parser exited with code {code}"


def test_a_child_that_lost_its_supervisor_blames_no_file(start: Callable[..., Child]) -> None:
    child = start(children.exits, ORPHANED)
    child.process.join(HANG_S)
    assert crash(child, NO_KILLS) is None


def test_the_kernel_s_kill_blames_the_file_once(start: Callable[..., Child], tmp_path: Path) -> None:
    counters = cgroup(tmp_path, "sys/fs/cgroup/job/memory.events", "0::/job\n", "oom 1\noom_kill 1\n")
    kills = OomKills(tmp_path)
    child = start(children.busy)
    child.kill()
    assert crash(child, kills) is None
    counters.write_text("oom 2\noom_kill 2\n")
    assert crash(child, kills) == "its parser was killed by SIGKILL: the kernel was out of memory"
    assert crash(child, kills) is None


def test_a_kill_of_another_process_is_not_laid_at_a_parser_s_door(tmp_path: Path) -> None:
    counters = cgroup(tmp_path, "sys/fs/cgroup/job/memory.events", "0::/job\n", "oom_kill 1\n")
    kills = OomKills(tmp_path)
    counters.write_text("oom_kill 2\n")  # the inference process
    kills.settle()
    assert not kills.take()


def test_kills_are_counted_in_control_groups_of_either_version_or_on_the_machine(tmp_path: Path) -> None:
    first = cgroup(
        tmp_path / "v1",
        "sys/fs/cgroup/memory/job/memory.oom_control",
        "4:cpu,cpuacct:/x\n5:memory:/job\n",
        "oom_kill_disable 0\noom_kill 7\n",
    )
    kills = OomKills(tmp_path / "v1")
    assert not kills.take()
    first.write_text("oom_kill 9\n")
    assert [kills.take() for _ in range(3)] == [True, True, False]
    (tmp_path / "none/proc").mkdir(parents=True)
    (tmp_path / "none/proc/vmstat").write_text("pgfault 3\noom_kill 4\n")
    machine = OomKills(tmp_path / "none")
    (tmp_path / "none/proc/vmstat").write_text("pgfault 3\noom_kill 5\n")
    assert machine.take()


# Again


def test_restarts_without_progress_wait_longer_each_time_and_end() -> None:
    restarts = Restarts()
    times = [restarts.died("indexer", 0) for _ in range(FUTILE_RESTARTS + 1)]
    assert times == [1, 2, 3, 4, 5, 6, 7]
    assert [restarts.pause("indexer was killed", each) for each in times[:-1]] == [0.5, 1, 2, 4, 8, 16]
    with pytest.raises(EngineError, match="indexer was killed, for the 7th time with nothing indexed"):
        restarts.pause("indexer was killed", times[-1])


def test_progress_between_restarts_makes_them_count_anew() -> None:
    restarts = Restarts()
    assert [restarts.died("x", progress) for progress in range(1, 50)] == [1] * 49


def test_one_lane_s_deaths_are_not_another_s() -> None:
    restarts = Restarts()
    assert [restarts.died(name, 0) for name in ("a", "b", "a", "a")] == [1, 1, 2, 3]
