"""Parsers that are gone leave nothing behind, and none is waited for in vain."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections import deque
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.config import Config, MemoryConfig
from engine.runtime.flow.admission import MAPPED_ROOM, SPARE_BYTES, SPARE_S, Admission
from engine.runtime.flow.lanes import Lane, LaneState, ParserSlot, make_lanes, share_out
from engine.runtime.limits.deaths import Restarts, Verdict
from engine.runtime.pipeline import Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.stats import Stats
from engine.stages.parse import FileJob
from tests.items import item
from tests.runtime import children

CONFIG = Config(memory=MemoryConfig(parser_memory=2**30))


JOB = FileJob(7, item("a"))


def made() -> tuple[Pipeline, Admission]:
    """A pipeline without processes yet, and the admission that watches its parsers."""
    pipeline = Pipeline(CONFIG, cast(Any, None), make_lanes(["cpu"]))
    unused = cast(Any, None)
    return pipeline, Admission(CONFIG, pipeline, unused, unused, unused, Restarts())


def threads_of(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith(f" {name}")]


def test_a_parser_that_died_by_itself_leaves_no_thread_and_no_connection(tmp_path: Path) -> None:
    pipeline, _ = made()
    child = Child("parser-0", children.exits, str(tmp_path), 7)
    slot = pipeline.lanes[0].parsers["parser-0"] = ParserSlot(child, CurrentItem(), dead=True)
    child.process.join(120)
    assert child.process.exitcode == 7
    pipeline.remove(pipeline.lanes[0], slot)
    deadline = time.monotonic() + 120
    while threads_of("parser-0") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads_of("parser-0") == []


def test_a_file_that_lets_its_parser_tell_nothing_is_a_reason_for_another_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.runtime.pipeline.LOOK_S", -1.0)
    monkeypatch.setattr("engine.runtime.pipeline.usable_cores", lambda: 4.0)

    def wanted(current_item: bool, silent_s: float) -> int:
        pipeline, _ = made()
        pipeline.lanes[0].workers = 4
        told = SimpleNamespace(name="parser-0", heard_at=time.monotonic() - silent_s, stats=Stats(1, 0, 0))
        slot = ParserSlot(cast(Any, told), CurrentItem(), jobs=deque([JOB]))
        if current_item:
            slot.current_item.begin(JOB.attempt)
        pipeline.lanes[0].parsers["parser-0"] = slot
        for second in range(1, 6):
            stats = Stats(0.0, float(second), 0.0)
            pipeline.lanes[0].inference = cast(Any, SimpleNamespace(name="inference", stats=stats))
            pipeline.staff(waiting=True)
        return pipeline.lanes[0].staffing.wanted

    assert wanted(current_item=True, silent_s=10.0) > 1
    assert wanted(current_item=True, silent_s=1.0) == 1  # it may tell more in a moment
    assert wanted(current_item=False, silent_s=10.0) == 1  # it is still starting


def test_a_parser_that_told_its_failure_and_never_ends_is_killed(tmp_path: Path) -> None:
    pipeline, admission = made()
    child = Child("parser-0", children.busy, str(tmp_path))
    slot = pipeline.lanes[0].parsers["parser-0"] = ParserSlot(child, CurrentItem())
    admission.failed(slot, m.Failed(1, "a bug"))
    admission.watch(time.monotonic(), draining_s=0, sizes={})
    child.process.join(120)
    assert child.process.exitcode == -signal.SIGKILL
    assert slot.verdict is not None
    assert slot.verdict.reason == "its parser failed: a bug"
    child.kill()


def test_a_parser_that_maps_more_than_its_limit_is_killed_and_its_file_blamed(tmp_path: Path) -> None:
    pipeline, admission = made()
    child = Child("parser-0", children.busy, str(tmp_path))
    slot = pipeline.lanes[0].parsers["parser-0"] = ParserSlot(child, CurrentItem(), jobs=deque([JOB]))
    slot.current_item.begin(JOB.attempt)
    limit = pipeline.parser_memory + MAPPED_ROOM
    verdicts = []
    for size in (limit, limit + 1):
        admission.watch(time.monotonic(), draining_s=0, sizes={child.pid: size})
        verdicts.append(slot.verdict)
    reason = f"its parser took {limit + 1} bytes (--parser-memory {2**30})"
    assert verdicts == [None, Verdict(reason, blames_file=True)]
    child.process.join(120)
    assert child.process.exitcode == -signal.SIGKILL
    child.kill()


def test_the_largest_idle_parser_that_holds_on_to_memory_ends_by_itself(tmp_path: Path) -> None:
    pipeline, admission = made()
    echoes = [Child(f"parser-{number}", children.echo, str(tmp_path)) for number in range(2)]
    for child in echoes:
        slot = pipeline.lanes[0].parsers[child.name] = ParserSlot(child, CurrentItem())
        slot.current_item.begin(1)
        slot.current_item.end()
    small, large = int(0.3 * 2**30), int(0.5 * 2**30)
    admission.recycle({echoes[0].pid: small, echoes[1].pid: small})
    assert not any(slot.retired for slot in pipeline.lanes[0].parsers.values())
    admission.recycle({echoes[0].pid: small, echoes[1].pid: large})
    assert [slot.retired for slot in pipeline.lanes[0].parsers.values()] == [False, True]
    echoes[1].process.join(120)
    assert echoes[1].process.exitcode == 0
    pipeline.kill()


def test_fewer_workers_let_the_last_parsers_end_and_the_others_get_the_new_limit(tmp_path: Path) -> None:
    pipeline, _ = made()
    echoes = [Child(f"parser-{number}", children.echo, str(tmp_path)) for number in range(3)]
    for child in echoes:
        pipeline.lanes[0].parsers[child.name] = ParserSlot(child, CurrentItem())
    pipeline.limit(1, 200 * 2**20)
    assert [slot.retired for slot in pipeline.lanes[0].parsers.values()] == [False, True, True]
    assert resource.prlimit(echoes[0].pid, resource.RLIMIT_DATA)[0] == 200 * 2**20
    pipeline.kill()
    assert pipeline.slots == []


def lanes_of(pace: dict[str, int]) -> list[Lane]:
    """Lanes whose parsers are no processes, so many in each."""
    lanes = make_lanes([*pace])
    for lane, parsers in zip(lanes, pace.values(), strict=True):
        for number in range(parsers):
            name = f"{lane.name} parser {number}"
            lane.parsers[name] = ParserSlot(cast(Any, SimpleNamespace(name=name)), CurrentItem())
    return lanes


def test_workers_are_shared_out_and_each_lane_gets_one() -> None:
    lanes = lanes_of({"cuda:0": 0, "cuda:1": 0, "cpu": 0})
    assert list(share_out(8, lanes).values()) == [3, 3, 2]
    assert list(share_out(1, lanes).values()) == [1, 1, 1]


def test_a_device_is_named_as_the_user_knows_it() -> None:
    assert [(lane.name, lane.label) for lane in make_lanes(["cuda:0"])] == [("inference", "cuda:0")]
    assert [lane.label for lane in make_lanes(["cpu", "cuda:1", "cpu"])] == [
        "cpu (inference-0)", "cuda:1", "cpu (inference-2)",
    ]  # fmt: skip


def test_an_item_goes_to_the_lane_with_the_most_room() -> None:
    lanes = lanes_of({"cuda:0": 1, "cuda:1": 1})
    pipeline = Pipeline(CONFIG, cast(Any, None), lanes)
    loads = {"inference-0": 5, "inference-1": 3}
    credit = cast(Any, SimpleNamespace(load=lambda lane, queued: loads[lane] + queued))
    unused = cast(Any, None)
    admission = Admission(CONFIG, pipeline, unused, unused, credit, Restarts())
    attempts = count(1)

    def chosen(size: int) -> str:
        lane = admission._most_room((), "a.txt", size)
        assert lane is not None
        lane.give(next(iter(lane.parsers.values())), FileJob(next(attempts), item("a.txt", size)))
        return lane.name

    assert [chosen(size) for size in (1, 2, 1, 9, 1)] == [
        "inference-1", "inference-1", "inference-0", "inference-0", "inference-1",
    ]  # fmt: skip
    lanes[0].state, lanes[0].back_at = LaneState.ENDING, None
    assert chosen(1) == "inference-1"


class Loads:
    """What waits for each device, in bytes, and how many it embeds a second."""

    def __init__(self, *waiting: int) -> None:
        self.bytes = {f"inference-{number}": size for number, size in enumerate(waiting)}
        self.rate = 0.0

    def load(self, lane: str, more: int) -> int:
        return self.bytes[lane] + more

    def waiting(self, lane: str) -> int:
        return self.bytes[lane]

    def speed(self, lane: str) -> float:
        return self.rate


@pytest.fixture
def one_is_full() -> tuple[Loads, Admission, list[Lane]]:
    """Two lanes; a single parser of the first is at a file that nothing joins."""
    lanes = lanes_of({"cuda:0": 1, "cuda:1": 1})
    loads, unused = Loads(0, 0), cast(Any, None)
    pipeline = Pipeline(CONFIG, unused, lanes)
    admission = Admission(CONFIG, pipeline, unused, unused, cast(Any, loads), Restarts())
    lanes[0].pace.parsed("a.txt", 100, 100.0, 100)
    lanes[0].give(next(iter(lanes[0].parsers.values())), FileJob(1, item("a.txt", 100)))
    return loads, admission, lanes


def test_a_lane_gets_no_file_while_one_with_less_to_do_takes_none(
    one_is_full: tuple[Loads, Admission, list[Lane]],
) -> None:
    loads, admission, (full, free) = one_is_full
    loads.bytes = {full.name: 10**6, free.name: 10**6 + 100}
    assert admission._most_room((), "a.txt", 100) is free, "as much to do as the other"
    loads.bytes[free.name] += 1
    assert admission._most_room((), "a.txt", 100) is None
    assert admission._most_room({full.name}, "a.txt", 100) is free
    full.state = LaneState.RESTING
    assert admission._most_room((), "a.txt", 100) is None, "it is started again in a moment"
    full.back_at = None
    assert admission._most_room((), "a.txt", 100) is free


def test_a_device_that_would_soon_have_nothing_gets_a_file_though_another_has_less(
    one_is_full: tuple[Loads, Admission, list[Lane]],
) -> None:
    loads, admission, (_, free) = one_is_full
    (slot,) = free.parsers.values()
    loads.bytes[free.name] = SPARE_BYTES - 1
    assert admission._most_room((), "a.txt", 100) is free
    loads.bytes[free.name] += 1
    assert admission._most_room((), "a.txt", 100) is None
    loads.rate = (SPARE_BYTES + 1) / SPARE_S
    assert admission._most_room((), "a.txt", 100) is free, "less than it does in that time"
    # What an idle parser would make is not there at once; what one has made half of soon is.
    for _ in range(100):
        free.pace.parsed("a.txt", 100, 0.0, 100)
    loads.bytes[free.name] = 200
    free.give(slot, FileJob(2, item("a.txt", SPARE_BYTES)))
    assert admission._most_room((), "a.txt", 100) is None
    loads.rate *= 2
    assert admission._most_room((), "a.txt", 100) is free


def test_a_file_that_has_something_in_flight_in_a_lane_is_parsed_again_there_and_none_overtakes_it() -> None:
    lanes = lanes_of({"cuda:0": 1, "cuda:1": 1})
    pipeline = Pipeline(CONFIG, cast(Any, None), lanes)
    where: dict[int, str | None] = {1: "inference-1", 2: None}
    accounts = cast(Any, SimpleNamespace(lane_of=lambda attempt: where[attempt], active=0))
    intake = cast(Any, SimpleNamespace(waiting=deque()))
    credit = cast(Any, Loads(0, 0))
    admission = Admission(CONFIG, pipeline, accounts, intake, credit, Restarts())
    stays, free = FileJob(1, item("a.txt")), FileJob(2, item("b.txt"))
    lanes[1].state = LaneState.ENDING
    admission._again.extend([stays, free])
    assert admission._next() == (lanes[0], free)
    assert admission._next() is None
    lanes[1].state = LaneState.READY
    assert admission._next() == (lanes[1], stays)
