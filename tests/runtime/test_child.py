"""Children are spoken to over one wire, tell how they end, and never outlive their supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engine.runtime import messages as m
from engine.runtime.child import ORPHANED, Child, pipe, was_stopped
from engine.runtime.lock import RunLock
from engine.stages.segment import Segment
from tests.runtime import children
from tests.stages.made import make_segment

#: Seconds after which a process that should have spoken or ended fails the test. Spawning takes about one.
PATIENCE_S = 30.0

#: Seconds in which a child must be gone after its supervisor is.
ORPHAN_DEADLINE_S = 5.0

Start = Callable[..., Child]


def heard(child: Child, count: int) -> list[object]:
    """So many messages of the child, without its stats."""
    messages: list[object] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(messages) < count and not child.silent and time.monotonic() < deadline:
        time.sleep(0.01)
        messages += child.receive()
    return messages


def end(child: Child) -> int | None:
    child.process.join(PATIENCE_S)
    return child.process.exitcode


def test_messages_go_both_ways_in_their_order_whatever_their_size(start: Start) -> None:
    child = start(children.echo)
    sent = [m.Note("first"), m.Delete(1, ["a" * 32] * 20_000), m.Note("last")]
    for message in sent:
        child.send(message)
    assert heard(child, 3) == sent
    child.send(m.Stop())
    assert end(child) == 0
    assert list(child.receive()) == []
    assert child.stats.wait_in_s > 0


def test_a_channel_is_handed_over_read_to_its_end_and_told_closed(start: Start) -> None:
    child = start(children.echo)
    writers = {}
    for name in ("parser-0", "parser-1"):
        reader, writers[name] = pipe()
        child.send_descriptor(m.OpenChannel(name), reader)
    child.send(m.Note("after the descriptors"))
    assert heard(child, 1) == [m.Note("after the descriptors")]
    segment = make_segment(3, size=500)
    writers["parser-1"].send(segment)
    received, back = heard(child, 2)
    assert received == m.Received(segment.attempt, segment.ordinal, 500, 3, "parser-1")
    assert isinstance(back, Segment)
    assert back.ids == segment.ids
    for name, writer in writers.items():
        writer.close()
        assert heard(child, 1) == [m.ChannelClosed(name)]


def test_half_a_segment_of_a_dead_producer_is_dropped_and_the_channel_closed(start: Start) -> None:
    child = start(children.echo)
    reader, writer = pipe()
    child.send_descriptor(m.OpenChannel("parser-0"), reader)
    whole = make_segment(2)
    writer.send(whole)
    os.write(writer.fileno(), (1000).to_bytes(4, "big") + b"x" * 10)  # a frame of 1,000 bytes, broken off
    writer.close()
    # The segment itself comes back from another thread, before or after the channel's end.
    told = [message for message in heard(child, 3) if not isinstance(message, Segment)]
    assert told == [
        m.Received(whole.attempt, whole.ordinal, whole.size, 2, "parser-0"),
        m.ChannelClosed("parser-0"),
    ]


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("killed", -signal.SIGKILL, "last_words was killed by SIGKILL, possibly out of memory"),
        ("exited", 7, "last_words exited with code 7"),
    ],
)
def test_what_a_child_said_before_it_died_is_read_after_its_death(
    start: Start, how: str, code: int, told: str
) -> None:
    child = start(children.last_words, how)
    assert end(child) == code
    assert list(child.receive()) == [m.Note("0"), m.Note("1"), m.Note("2")]
    assert child.silent
    assert child.death() == told
    assert list(child.receive()) == []
    child.send(m.Note("into the void"))  # no error: a death is found by its sentinel
    reader, writer = pipe()
    child.send_descriptor(m.OpenChannel("x"), reader)
    deadline = time.monotonic() + PATIENCE_S
    while not reader.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reader.closed
    writer.close()


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        ("usage", 2, "give another"),
        ("engine", 1, "counts differ"),
        ("bug", 1, "ZeroDivisionError: by nothing"),
    ],
)
def test_an_error_is_a_child_s_last_word_with_the_exit_code_it_asks_for(
    start: Start, how: str, code: int, message: str
) -> None:
    child = start(children.last_words, how)
    last = heard(child, 4)[-1]
    assert isinstance(last, m.Failed)
    assert (last.exit_code, last.message) == (code, message)
    assert ("in last_words" in last.traceback or "in body" in last.traceback) is (how == "bug")


def test_signals_for_the_supervisor_leave_a_child_alone(start: Start) -> None:
    assert heard(start(children.signals), 1) == [m.Note("alive")]


def test_a_process_that_was_stopped_is_told_from_one_whose_library_lets_no_thread_run() -> None:
    assert was_stopped(passed_s=20, worked_s=1)
    assert not was_stopped(passed_s=20, worked_s=19.8)
    assert not was_stopped(passed_s=1.2, worked_s=0)


def test_a_child_that_is_killed_is_gone_when_the_call_returns(start: Start) -> None:
    child = start(children.busy)
    pid = child.pid
    child.kill()
    assert not psutil.pid_exists(pid)
    assert child.process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("target", [children.echo, children.busy])
def test_a_child_ends_when_its_wire_is_cut(start: Start, target: Callable[..., None]) -> None:
    child = start(target)
    with socket.socket(fileno=os.dup(child.control.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    assert end(child) == ORPHANED


def test_children_are_gone_soon_after_their_supervisor_is_killed_and_the_directory_is_free(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.runtime.children", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split()]
        assert len(processes) == 2
        supervisor.kill()
    _, alive = psutil.wait_procs(processes, ORPHAN_DEADLINE_S)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    RunLock(tmp_path).release()
