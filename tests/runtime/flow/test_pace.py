"""As many files wait in a parser's queue as it gets through in a moment, and they go there in groups."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.config import Config, MemoryConfig
from engine.runtime.flow.lanes import ParserSlot, make_lanes
from engine.runtime.flow.pace import (
    KINDS,
    QUEUED_BYTES,
    QUEUED_FILES,
    QUEUED_S,
    UNKNOWN_BYTES,
    UNKNOWN_S,
    Pace,
)
from engine.runtime.pipeline import Pipeline
from engine.runtime.process.current_item import CurrentItem
from engine.stages.parse import FileJob
from tests.items import item

SMALL = 5000


def pipeline_of(parsers: int) -> Pipeline:
    """A pipeline whose parsers are no processes."""
    config = Config(memory=MemoryConfig(workers=parsers, parser_memory=2**30))
    pipeline = Pipeline(config, cast(Any, None), make_lanes(["cpu"]))
    for number in range(parsers):
        child = cast(Any, SimpleNamespace(name=f"parser-{number}"))
        pipeline.lanes[0].parsers[child.name] = ParserSlot(child, CurrentItem())
    return pipeline


def known(pipeline: Pipeline, name: str, seconds: float, size: int = SMALL) -> None:
    for _ in range(50):
        pipeline.pace.parsed(name, size, seconds, size)


def given(pipeline: Pipeline, names: Iterator[str], size: int = SMALL) -> list[int]:
    """Give files while there is room; how many each parser has then."""
    for number, name in enumerate(names):
        if not pipeline.lanes[0].has_room(name, size):
            break
        slot = pipeline.parser_for(pipeline.lanes[0], name, size)
        assert slot is not None
        pipeline.lanes[0].give(slot, FileJob(number, item(name, size)))
    return [len(slot.jobs) for slot in pipeline.lanes[0].parsers.values()]


def endless(name: str) -> Iterator[str]:
    while True:
        yield name


@pytest.mark.parametrize(
    ("seconds", "waiting"),
    [(0.0001, QUEUED_FILES - 1), (QUEUED_S / 10.5, 10), (QUEUED_S / 1.5, 1), (10 * QUEUED_S, 0)],
)
def test_a_moment_s_work_waits_behind_the_file_at_hand(seconds: float, waiting: int) -> None:
    pipeline = pipeline_of(2)
    known(pipeline, "/a.txt", seconds)
    assert given(pipeline, endless("/b.TXT")) == [waiting + 1] * 2


def test_few_files_of_an_unknown_kind_wait() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.txt", 0.0001)
    assert given(pipeline, endless("/a.pdf")) == [1 + round(QUEUED_S / UNKNOWN_S)]


def test_a_heavy_file_does_not_join_a_queue_of_light_ones() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.txt", 0.0001)
    known(pipeline, "/a.pdf", 2 * QUEUED_S)
    assert given(pipeline, iter(["/1.txt", "/2.txt", "/3.pdf", "/4.pdf"])) == [2]


def test_a_large_file_of_an_unknown_kind_neither_waits_nor_is_waited_for() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.txt", 0.0001)
    assert given(pipeline, endless("/a.pdf"), UNKNOWN_BYTES + 1) == [1]
    assert given(pipeline, endless("/a.txt")) == [1]


def test_a_file_that_is_larger_than_usual_takes_longer_in_proportion() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.txt", QUEUED_S / 100)
    pace = pipeline.pace
    assert pace.expected("/b.txt", 10 * SMALL) == pytest.approx(QUEUED_S / 10, rel=0.01)
    # A smaller one costs something, too.
    assert pace.expected("/b.txt", 1) == pace.expected("/b.txt", SMALL)
    assert given(pipeline, endless("/b.txt"), 40 * SMALL) == [1 + 2]
    (slot,) = pipeline.lanes[0].parsers.values()
    slot.jobs.clear()
    assert given(pipeline, endless("/b.txt"), 200 * SMALL) == [1]
    assert given(pipeline, endless("/b.txt")) == [1]


def test_large_files_that_are_quick_wait_like_others() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.jpg", QUEUED_S / 10.5, 2**20)
    assert given(pipeline, endless("/b.jpg"), 2**20) == [1 + 10]


def test_files_that_wait_have_so_many_bytes_together() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.jpg", 0.0001, 2**20)
    assert given(pipeline, endless("/a.jpg"), 2**20) == [1 + QUEUED_BYTES // 2**20]


def test_a_queue_is_left_alone_until_half_of_it_is_done_and_then_filled() -> None:
    pipeline = pipeline_of(1)
    known(pipeline, "/a.txt", 0.0001)
    (slot,) = pipeline.lanes[0].parsers.values()
    assert given(pipeline, endless("/a.txt")) == [QUEUED_FILES]
    groups = []
    for _ in range(4 * QUEUED_FILES):
        before = len(slot.jobs)
        if (after := given(pipeline, endless("/a.txt"))[0]) > before:
            groups.append(after - before)
        pipeline.lanes[0].done(slot)
    assert groups == [QUEUED_FILES // 2] * (len(groups))
    assert len(groups) >= 6


def test_one_quick_file_is_no_proof_and_a_slow_one_soon_is() -> None:
    pace = Pace()
    pace.parsed("/a.txt", SMALL, 0.0, 0)
    assert pace.expected("/b.txt", SMALL) > UNKNOWN_S / 2
    known_quick = Pace()
    for _ in range(50):
        known_quick.parsed("/a.txt", SMALL, 0.0001, 0)
    known_quick.parsed("/a.txt", SMALL, 4 * QUEUED_S, 0)
    assert known_quick.expected("/a.txt", SMALL) >= QUEUED_S


def test_what_files_become_is_known_by_the_last_ones_of_their_kind() -> None:
    pace = Pace()
    assert pace.emits("/a.pdf", 2**20) == 2**20
    pace.parsed("/a.pdf", 2**20, 1.0, 2**10)
    pace.parsed("/a.txt", SMALL, 1.0, 2 * SMALL)
    assert pace.emits("/b.pdf", 2**21) == 2**11
    assert pace.emits("/b.txt", 100) == 200
    pace.parsed("/empty.md", 0, 1.0, 0)
    assert pace.emits("/b.md", SMALL) == 0


def test_a_lane_has_what_its_parsers_files_will_become_until_they_are_done_or_taken_away() -> None:
    pipeline = pipeline_of(2)
    (lane,) = pipeline.lanes
    one, other = lane.parsers.values()
    lane.give(one, FileJob(1, item("/a.txt", 100)))
    known(pipeline, "/a.txt", 0.1)
    pipeline.pace.parsed("/a.txt", SMALL, 0.1, 5 * SMALL)  # 1 + (5 - 1) / 4 times its bytes
    for attempt in (2, 3, 4, 5):
        lane.give(one if attempt < 4 else other, FileJob(attempt, item("/a.txt", 100)))
    assert lane.queued == 100 + 4 * 200
    lane.done(one)
    assert lane.queued == 4 * 200
    lane.empty(one)
    assert lane.queued == 2 * 200
    lane.remove(other)
    assert lane.queued == 0


def test_not_every_ending_of_a_name_is_remembered() -> None:
    pace = Pace()
    for number in range(3 * KINDS):
        pace.parsed(f"/file.{number}", SMALL, 1.0, 0)
    assert len(pace._usual) == KINDS
    assert pace.expected(f"/file.{3 * KINDS - 1}", SMALL) == 1.0
    assert pace.expected("/file.0", SMALL) == UNKNOWN_S
