"""Children are spoken to over one wire, tell how they end, and never outlive their supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import ANY

import psutil
import pytest

from engine.config import Config, MemoryConfig
from engine.errors import EngineError
from engine.runtime.flow.admission import STILLBORN_PARSERS, Admission
from engine.runtime.flow.lanes import ParserSlot, make_lanes
from engine.runtime.limits.deaths import Restarts, Verdict
from engine.runtime.limits.lock import RunLock
from engine.runtime.pipeline import Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child, pipe
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.mailbox import ORPHANED, was_stopped
from engine.runtime.process.wake import WakeEvent
from engine.runtime.router import Router
from engine.stages.parse import FileEnd, FileJob
from engine.stages.segment import Segment
from tests.items import item
from tests.runtime import children
from tests.runtime.conftest import Start
from tests.stages.made import make_segment

#: Seconds after which a process that should have spoken or ended fails the test. Spawning takes about one.
PATIENCE_S = 120.0


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
    writers["parser-1"].send([segment])
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
    writer.send([whole])
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


class Rings(WakeEvent):
    """Remembers how it was rung."""

    def __init__(self) -> None:
        super().__init__()
        self.urgent: list[bool] = []

    def set(self, urgent: bool = True) -> None:
        self.urgent.append(urgent)
        super().set(urgent)


@pytest.mark.parametrize("how", ["company", "alone", "bug"])
def test_what_is_told_soon_comes_in_its_order_with_company_or_alone(start: Start, how: str) -> None:
    child = start(children.soon, how)
    told = heard(child, 3 if how == "alone" else 4)
    assert told[:3] == [m.Note("before"), m.Note("soon"), m.Note("soon, too")]
    assert isinstance(told[-1], m.Failed) is (how == "bug")


def test_a_child_that_is_killed_while_messages_wait_has_told_what_came_before_them(start: Start) -> None:
    child = start(children.soon, "killed")
    assert end(child) == -signal.SIGKILL
    assert list(child.receive()) == [m.Note("before")]
    assert child.silent


def test_what_waits_goes_with_the_next_message_as_one(tmp_path: Path) -> None:
    rings = Rings()
    child = Child("soon", children.soon, str(tmp_path), "company", wake=rings)
    assert end(child) == 0
    assert len(heard(child, 4)) == 4
    child.kill()
    # One for the first, one for three together; then the last heartbeat, in no hurry, and the end.
    assert rings.urgent[:2] == [True, True]
    assert sum(rings.urgent) == 3


#: Bytes that those parsers may send: 20 segments of the stage in `children`.
CREDIT = 2000


@dataclass
class AtWorkOn:
    """A parser at work on some files: its process, what admission knows of it, where it books their ends,
    and what its segments come out of."""

    child: Child
    slot: ParserSlot
    admission: Admission
    ended: list[int]
    channel: Connection
    router: Router[[Child]] = field(default_factory=Router)

    def __post_init__(self) -> None:
        self.admission.register(self.router)

    def segments(self) -> list[int]:
        """The attempts of all segments, when the parser is gone."""
        found = list[int]()
        with suppress(EOFError):
            while True:
                found += [segment.attempt for segment in self.channel.recv()]
        return found


Parsing = Callable[..., AtWorkOn]


@pytest.fixture
def parsing(tmp_path: Path) -> Iterator[Parsing]:
    """Starts a parser at work on files of these names."""
    started = list[AtWorkOn]()

    def begin(*names: str) -> AtWorkOn:
        ended, work = list[int](), CurrentItem()
        reader, writer = pipe()
        child = Child("parser-0", children.parses, str(tmp_path), writer, work, wake=Rings())
        writer.close()
        config = Config(memory=MemoryConfig(parser_memory=2**30))
        pipeline = Pipeline(config, cast(Any, None), make_lanes(["cpu"]))
        slot = pipeline.lanes[0].parsers["parser-0"] = ParserSlot(child, work)
        accounts = SimpleNamespace(parsed=lambda attempt, end: ended.append(attempt))
        unused = cast(Any, None)
        admission = Admission(config, pipeline, cast(Any, accounts), unused, unused, Restarts())
        jobs = tuple(FileJob(number, item(name)) for number, name in enumerate(names, 1))
        for job in jobs:
            pipeline.lanes[0].give(slot, job)
        child.send(m.Grant(CREDIT))
        child.send(m.Parse(jobs))
        started.append(AtWorkOn(child, slot, admission, ended, reader))
        return started[-1]

    yield begin
    for each in started:
        each.child.kill()
        each.channel.close()


@pytest.mark.parametrize(
    ("before", "told"),
    [(["a", "b"], 0), (["a", "slow", "b"], 1)],
    ids=["nothing-told-yet", "some-told"],
)
def test_a_file_that_kills_its_parser_is_known_whatever_was_told_of_those_before(
    parsing: Parsing, before: list[str], told: int
) -> None:
    work = parsing(*before, "deadly", "c")
    child, slot, ended, router = work.child, work.slot, work.ended, work.router
    assert end(child) == -signal.SIGKILL
    for message in child.receive():
        router(message, child)
    # On a busy machine more may have been told.
    assert ended == list(range(1, len(ended) + 1))
    assert told <= len(ended) <= len(before)
    assert slot.current is not None
    assert slot.current.item.location == "deadly"
    rest = [*before, "deadly", "c"][len(ended) :]
    assert [job.item.location for job in slot.jobs] == rest
    assert slot.begun == len(rest) - 1


def test_the_files_that_a_dead_parser_had_begun_may_have_left_records_and_one_is_to_blame(
    parsing: Parsing,
) -> None:
    work = parsing("a", "b")
    child, slot, admission = work.child, work.slot, work.admission
    (lane,) = admission._pipeline.lanes
    child.kill()
    slot.dead = True
    jobs = [FileJob(attempt, item(name)) for attempt, name in ((7, "a"), (9, "b"), (8, "c"), (10, "d"))]
    lost = list[tuple[str, bool, bool]]()

    def book(attempt: int, begun: bool, crashed: str | None) -> None:
        name = next(job.item.location for job in jobs if job.attempt == attempt)
        lost.append((name, begun, crashed is not None))

    def after(*, begun: list[int], ended: bool) -> list[tuple[str, bool, bool]]:
        lost.clear()
        slot.jobs, slot.current_item = deque(), CurrentItem()
        for job in jobs:
            lane.give(slot, job)
        for attempt in begun:
            slot.current_item.begin(attempt)
        if ended:
            slot.current_item.end()
        slot.verdict = Verdict("stuck", blames_file=True)
        lane.parsers["parser-0"] = slot
        admission._credits = cast(Any, SimpleNamespace(forget=lambda lane, name: None))
        admission._accounts = cast(Any, SimpleNamespace(lost=book))
        admission.gone(lane, slot)
        return [*lost]

    a, b, c, d = "abcd"
    assert after(begun=[], ended=False) == [(name, False, False) for name in "abcd"]
    assert after(begun=[7], ended=False) == [
        (a, True, True),
        (b, False, False),
        (c, False, False),
        (d, False, False),
    ]
    assert after(begun=[7, 9], ended=True) == [
        (a, True, False),
        (b, True, False),
        (c, False, False),
        (d, False, False),
    ]
    assert after(begun=[7, 9, 8], ended=False) == [
        (a, True, False),
        (b, True, False),
        (c, True, True),
        (d, False, False),
    ]
    # All of them came later than what it had begun with.
    assert after(begun=[6], ended=True) == [(name, False, False) for name in "abcd"]


def test_a_parser_that_has_nothing_to_do_says_so_at_once_and_else_in_its_own_time(parsing: Parsing) -> None:
    work = parsing("a", "b", "slow")
    child, slot, admission, ended = work.child, work.slot, work.admission, work.ended
    *told, idle = heard(child, 4)
    assert idle == m.Idle()
    for message in told:
        work.router(message, child)
    assert (ended, list(slot.jobs), slot.current) == ([1, 2, 3], [], None)
    assert admission._pipeline.pace.expected("slow", 1) > 0.05
    rings = cast(Rings, child._wake)
    # It rings when a message is there to be read, hence a moment later.
    deadline = time.monotonic() + PATIENCE_S
    while True not in rings.urgent and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rings.urgent.count(True) == 1


def test_what_is_parsed_leaves_though_the_next_file_takes_for_ever(parsing: Parsing) -> None:
    work = parsing("text", "stuck")
    assert heard(work.child, 1) == [m.FileParsed(1, FileEnd("parsed"), ANY, emitted=100)]
    work.child.kill()
    assert work.segments() == [1]


def test_news_of_a_file_is_never_told_before_its_segments_have_left(parsing: Parsing) -> None:
    for count in range(4):
        work = parsing(*["text"] * count, "slow", "text", "deadly")
        assert end(work.child) == -signal.SIGKILL
        told = [message.attempt for message in work.child.receive() if isinstance(message, m.FileParsed)]
        files = {attempt for attempt in told if attempt != count + 1}
        assert files <= set(work.segments())
        assert set(range(1, count + 1)) <= files


@pytest.mark.parametrize("message", [m.Cancel(), m.Stop()])
def test_what_is_parsed_leaves_before_a_parser_leaves_its_files_or_ends(
    parsing: Parsing, message: object
) -> None:
    cancelled = message == m.Cancel()
    work = parsing("text", "endless" if cancelled else "text")
    told = heard(work.child, 1)
    work.child.send(message)
    if cancelled:
        while m.Cancelled() not in told:
            news = heard(work.child, 1)
            assert news
            told += news
        work.child.send(m.Stop())
    assert end(work.child) == 0
    told += work.child.receive()
    ended = [each.attempt for each in told if isinstance(each, m.FileParsed)]
    segments = work.segments()
    if cancelled:
        assert ended == [1]
        # The last of the second file's came before it was left, at the latest when there was no credit.
        assert segments[0] == 1
        assert 0 <= segments.count(2) <= CREDIT / 100
    else:
        assert (ended, segments) == ([1, 2], [1, 2])


def test_only_parsers_in_a_row_that_never_begin_a_file_end_the_run(parsing: Parsing) -> None:
    work = parsing("a")
    admission, slot = work.admission, work.slot
    heard(work.child, 2)
    work.child.kill()
    newborn = ParserSlot(work.child, CurrentItem(), jobs=deque([FileJob(9, item("b"))]))
    for _ in range(3):
        for _ in range(STILLBORN_PARSERS - 1):
            admission.died(newborn)
        admission.file_parsed(m.FileParsed(1, FileEnd("parsed")), work.child)
        admission._pipeline.lanes[0].give(slot, FileJob(1, item("a")))
    for _ in range(STILLBORN_PARSERS - 1):
        admission.died(newborn)
    admission.died(slot)  # which had begun one
    with pytest.raises(EngineError, match="8 parsers in a row died before they parsed anything"):
        for _ in range(STILLBORN_PARSERS):
            admission.died(newborn)


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
    _, alive = psutil.wait_procs(processes, PATIENCE_S)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    RunLock(tmp_path).release()
