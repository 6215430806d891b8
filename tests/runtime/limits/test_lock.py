"""One run at a time in a directory, none beside the children of a killed one, none locked out for ever."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.runtime.limits import lock as module
from engine.runtime.limits.lock import FOREIGN_LOCK_EXPIRY_S, RunLock, hold_as_child, owner_of

HOLDER = (
    "from pathlib import Path; from engine.runtime.limits.lock import RunLock; lock = RunLock(Path({0!r}))"
)
CHILD = "from engine.runtime.limits.lock import hold_as_child; hold_as_child({0!r})"


@contextmanager
def process(code: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has run this code and waits to be killed."""
    script = code.format(str(folder)) + "\nprint(1, flush=True)\nimport time\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"1\n"
        try:
            yield running
        finally:
            running.kill()


def foreign(folder: Path, age_s: float) -> None:
    """The lock file of a run on another host, with a heartbeat of that age."""
    path = folder / "lock"
    path.write_text(json.dumps({"host": "node-7", "pid": 4242, "boot_id": "x"}))
    then = time.time() - age_s
    os.utime(path, (then, then))


def test_a_second_run_in_another_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with process(HOLDER, tmp_path) as holder, pytest.raises(UsageError) as refused:
        RunLock(tmp_path)
    assert str(refused.value) == (
        f"--run-dir {tmp_path}: locked by process {holder.pid} on {socket.gethostname()};"
        " wait for it, stop it, or name another --run-dir"
    )


def test_a_second_run_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first = RunLock(tmp_path)
    with pytest.raises(UsageError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path)
    first.release()
    RunLock(tmp_path).release()


def test_a_killed_run_leaves_no_lock_behind(tmp_path: Path) -> None:
    with process(HOLDER, tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        mine = RunLock(tmp_path)
    owner = json.loads((tmp_path / "lock").read_text())
    assert owner["pid"] == os.getpid()
    mine.release()


def test_a_stopped_holder_still_holds_its_lock(tmp_path: Path) -> None:
    with process(HOLDER, tmp_path) as holder:
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(UsageError, match="locked by process"):
            RunLock(tmp_path)


def test_releasing_twice_is_no_error_and_leaves_an_empty_file(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.release()
    lock.release()
    assert (tmp_path / "lock").read_text() == ""


def test_a_lock_file_tells_host_process_and_boot(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    owner = json.loads((tmp_path / "lock").read_text())
    assert (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
    assert "boot_id" in owner
    lock.release()


# Children of a killed run


def test_a_run_waits_until_the_children_of_a_killed_one_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(CHILD, tmp_path) as child:
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            child.kill()
            child.wait()

        monkeypatch.setattr(time, "sleep", wait)
        RunLock(tmp_path).release()
    assert waits


def test_children_that_never_go_end_the_waiting_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHILDREN_DEADLINE_S", 0.0)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    told = r"processes of a killed run are still alive .*; end them, then run"
    with process(CHILD, tmp_path), pytest.raises(UsageError, match=told):
        RunLock(tmp_path)
    RunLock(tmp_path).release()  # the refused one holds nothing


def test_children_hold_together_and_keep_no_run_of_their_own_out(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    descriptors = [hold_as_child(str(tmp_path)) for _ in range(2)]
    with open(tmp_path / "children.lock") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not any(os.get_inheritable(descriptor) for descriptor in descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    lock.release()


# Other hosts


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that the lock's waits have asked for; time passes by them alone."""
    waits: list[float] = []
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", waits.append)
        patch.setattr(time, "monotonic", lambda: began + sum(waits))
        yield waits


@pytest.mark.parametrize("age_s", [0.0, FOREIGN_LOCK_EXPIRY_S + 5])
def test_a_beat_of_another_host_is_respected_however_old_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float
) -> None:
    foreign(tmp_path, age_s)
    monkeypatch.setattr(time, "sleep", lambda _: os.utime(tmp_path / "lock"))
    with pytest.raises(UsageError, match="locked by process 4242 on node-7"):
        RunLock(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["host"] == "node-7"


@pytest.mark.parametrize(
    ("age_s", "waited_s"),
    [
        (FOREIGN_LOCK_EXPIRY_S + 5, module.CONFIRM_S),
        (FOREIGN_LOCK_EXPIRY_S - 40, 40),
        (-500, FOREIGN_LOCK_EXPIRY_S),
    ],
    ids=["old", "recent", "of a clock that is ahead"],
)
def test_the_lock_of_a_lost_host_is_taken_over_when_it_was_silent_long_enough(
    tmp_path: Path, looks: list[float], age_s: float, waited_s: float
) -> None:
    foreign(tmp_path, age_s)
    told: list[str] = []
    lock = RunLock(tmp_path, told.append)
    assert sum(looks) == pytest.approx(waited_s, abs=2 * module.LOOK_S)
    assert json.loads((tmp_path / "lock").read_text())["host"] == socket.gethostname()
    (line,) = told
    assert line.startswith("waiting for the lock of process 4242 on node-7")
    lock.release()


def test_a_lost_host_whose_kernel_lock_the_file_system_keeps_is_told_of_after_the_wait(
    tmp_path: Path, looks: list[float]
) -> None:
    with process(HOLDER, tmp_path):
        foreign(tmp_path, 0)
        with pytest.raises(UsageError, match="locked by process 4242 on node-7"):
            RunLock(tmp_path)
    assert sum(looks) >= FOREIGN_LOCK_EXPIRY_S


def test_a_lock_given_back_while_it_is_watched_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(tmp_path, 0)
    monkeypatch.setattr(time, "sleep", lambda _: (tmp_path / "lock").write_text(""))
    RunLock(tmp_path).release()


def test_who_watches_a_lock_can_be_asked_to_stop(tmp_path: Path, looks: list[float]) -> None:
    foreign(tmp_path, 0)

    def check() -> None:
        if looks:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        RunLock(tmp_path, check=check)
    assert json.loads((tmp_path / "lock").read_text())["host"] == "node-7"
    assert len(looks) == 1


def test_a_beat_makes_the_lock_look_fresh(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    os.utime(tmp_path / "lock", (1, 1))
    lock.beat()
    assert time.time() - (tmp_path / "lock").stat().st_mtime < FOREIGN_LOCK_EXPIRY_S
    lock.release()


@pytest.mark.parametrize("content", ["not json", "[1, 2]", '{"pid": 7}', "{", "\x00\x00"])
def test_a_lock_file_of_no_sense_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    os.utime(tmp_path / "lock", (1, 1))
    lock = RunLock(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    lock.release()


@pytest.mark.parametrize("content", ["not json", '{"pid": 7}', ""])
def test_a_held_lock_that_does_not_tell_its_holder_is_refused_all_the_same(
    tmp_path: Path, content: str
) -> None:
    lock = RunLock(tmp_path)
    (tmp_path / "lock").write_text(content)
    with pytest.raises(UsageError, match="locked by another process"):
        RunLock(tmp_path)
    lock.release()


def test_a_look_tells_who_holds_a_directory_without_touching_it(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    assert not list(tmp_path.iterdir())
    with process(HOLDER, tmp_path) as running:
        before = (tmp_path / "lock").stat()
        owner = owner_of(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.host) == (running.pid, socket.gethostname())
        assert 0 <= owner.age_s < 60
        assert (tmp_path / "lock").stat() == before
        running.kill()
        # Dead, and not yet buried.
        os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT)
        assert owner_of(tmp_path) is None
    assert owner_of(tmp_path) is None
    lock = RunLock(tmp_path)
    assert owner_of(tmp_path) is not None
    lock.release()
    assert owner_of(tmp_path) is None


def test_a_process_that_got_the_number_of_a_dead_owner_is_none(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "boot_id": "x"}))
    assert owner_of(tmp_path) is not None
    os.utime(lock, (1, 1))
    assert owner_of(tmp_path) is None


def test_an_owner_elsewhere_counts_while_it_gives_signs_of_life(tmp_path: Path) -> None:
    foreign(tmp_path, FOREIGN_LOCK_EXPIRY_S / 2)
    owner = owner_of(tmp_path)
    assert owner is not None
    assert (owner.host, owner.pid) == ("node-7", 4242)
    foreign(tmp_path, FOREIGN_LOCK_EXPIRY_S + 5)
    assert owner_of(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", "{", '{"host": "a", "pid": "b"}'])
def test_a_lock_that_tells_nothing_has_no_owner(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    assert owner_of(tmp_path) is None
