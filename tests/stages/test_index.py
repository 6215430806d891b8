"""Bulk writes are bounded in size and in age, and every chunk of every segment gets one answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.errors import DatabaseUnavailableError, HandOverError
from engine.records import Kind, Record
from engine.stages.index import BULK_AGE_S, BULK_BYTES, IndexStage, Written
from tests.stages.made import make_embedded

MODELS: dict[Kind, str] = {"text": "text-model", "image": "image-model"}


class Database:
    """Notes each call; `down` makes the calls of these numbers fail, `refuse` the texts in it."""

    def __init__(self, down: Sequence[int] = (), refuse: Sequence[str] = ()) -> None:
        self.calls: list[tuple[bool, list[str]]] = []
        self.records: list[Record] = []
        self._down, self._refuse = set(down), set(refuse)

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        self.calls.append((maybe_present, [record.id for record in records]))
        if len(self.calls) in self._down:
            raise DatabaseUnavailableError("connection refused")
        self.records += records
        return ["mapping" if record.text in self._refuse else None for record in records]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def stage_on(database: Database, clock: Clock | None = None) -> IndexStage:
    return IndexStage(database, MODELS, {}, clock or Clock())


def refusals(results: Sequence[Written]) -> dict[str, dict[int, str]]:
    return {result.segment.source: result.refused for result in results}


# When a write is due


def test_nothing_waits_and_nothing_is_due() -> None:
    stage = stage_on(Database())
    assert stage.due_in() is None
    assert stage.flush() == []


def test_the_oldest_segment_says_when_a_write_is_due() -> None:
    clock = Clock()
    stage = stage_on(Database(), clock)
    stage.add(make_embedded(name="first"))
    clock.now += BULK_AGE_S / 4
    stage.add(make_embedded(name="second"))
    assert stage.due_in() == pytest.approx(3 * BULK_AGE_S / 4)
    clock.now += BULK_AGE_S
    assert stage.due_in() == 0.0
    stage.flush()
    assert stage.due_in() is None
    stage.add(make_embedded(name="third"))
    assert stage.due_in() == BULK_AGE_S


def test_enough_bytes_make_a_write_due_at_once() -> None:
    stage = stage_on(Database())
    stage.add(make_embedded(name="small", size=BULK_BYTES - 1))
    assert stage.due_in() == BULK_AGE_S
    stage.add(make_embedded(name="drop", size=1))
    assert stage.due_in() == 0.0
    stage.flush()
    stage.add(make_embedded(name="next", size=BULK_BYTES - 1))
    assert stage.due_in() == BULK_AGE_S


def test_what_is_enough_is_for_the_caller_to_say() -> None:
    stage = IndexStage(Database(), MODELS, {}, Clock(), bulk_bytes=100)
    stage.add(make_embedded(name="small", size=99))
    assert stage.due_in() == BULK_AGE_S
    stage.add(make_embedded(name="drop", size=1))
    assert stage.due_in() == 0.0


# What is written


def test_all_that_waits_is_one_write_and_each_segment_has_its_result() -> None:
    database = Database()
    stage = stage_on(database)
    segments = [make_embedded(2, "a"), make_embedded(1, "b", kind="image")]
    for segment in segments:
        stage.add(segment)
    results = stage.flush()
    assert [result.segment for result in results] == segments
    assert [len(ids) for _, ids in database.calls] == [3]
    assert [record.model for record in database.records] == ["text-model", "text-model", "image-model"]


def test_what_may_be_there_is_written_apart_from_what_can_not_be() -> None:
    database = Database()
    stage = stage_on(database)
    new, old, also_new = (
        make_embedded(1, "new"),
        make_embedded(1, "old", maybe_present=True),
        make_embedded(1, "x"),
    )
    for segment in (new, old, also_new):
        stage.add(segment)
    results = stage.flush()
    assert database.calls == [(False, [*new.ids, *also_new.ids]), (True, old.ids)]
    assert {id(result.segment) for result in results} == {id(new), id(old), id(also_new)}


def test_a_refusal_is_told_at_the_position_of_its_chunk() -> None:
    stage = stage_on(Database(refuse=["a 1", "b 0"]))
    for segment in (make_embedded(3, "a"), make_embedded(1, "b"), make_embedded(2, "c")):
        stage.add(segment)
    assert refusals(stage.flush()) == {
        "/corpus/a": {1: "mapping"},
        "/corpus/b": {0: "mapping"},
        "/corpus/c": {},
    }


def test_what_the_model_could_not_embed_never_reaches_the_database() -> None:
    database = Database(refuse=["a 2"])
    stage = stage_on(database)
    segment = make_embedded(4, "a", refused={1: "too large"})
    stage.add(segment)
    (result,) = stage.flush()
    assert [(record.text, record.position) for record in database.records] == [
        ("a 0", 0),
        ("a 2", 2),
        ("a 3", 3),
    ]
    assert result.refused == {1: "too large", 2: "mapping"}
    assert segment.refused == {1: "too large"}


def test_a_segment_of_which_nothing_could_be_embedded_is_answered_without_a_write() -> None:
    database = Database()
    stage = stage_on(database)
    segment = make_embedded(2, refused={0: "not finite", 1: "not finite"})
    stage.add(segment)
    (result,) = stage.flush()
    assert (database.calls, result.refused) == ([], segment.refused)


# When the database is away


def test_segments_wait_for_the_next_try_and_may_then_be_there() -> None:
    database = Database(down=[1])
    stage = stage_on(database)
    segment = make_embedded(2)
    stage.add(segment)
    with pytest.raises(DatabaseUnavailableError):
        stage.flush()
    assert stage.due_in() is not None
    (result,) = stage.flush()
    assert result.segment is segment
    assert [maybe_present for maybe_present, _ in database.calls] == [False, True]
    assert stage.due_in() is None


def test_results_of_a_first_write_are_not_lost_when_the_second_one_fails() -> None:
    database = Database(down=[2])
    stage = stage_on(database)
    new, old = make_embedded(1, "new"), make_embedded(1, "old", maybe_present=True)
    stage.add(new)
    stage.add(old)
    with pytest.raises(DatabaseUnavailableError):
        stage.flush()
    assert [result.segment for result in stage.flush()] == [new, old]
    assert [ids for _, ids in database.calls] == [new.ids, old.ids, old.ids]
    assert stage.flush() == []


def test_segments_that_came_while_the_database_was_away_are_written_too() -> None:
    database = Database(down=[1])
    stage = stage_on(database)
    stage.add(make_embedded(1, "before"))
    with pytest.raises(DatabaseUnavailableError):
        stage.flush()
    stage.add(make_embedded(1, "while"))
    assert list(refusals(stage.flush())) == ["/corpus/while", "/corpus/before"]


# What is a bug


def test_an_adapter_that_gives_too_few_outcomes_is_an_error() -> None:
    class Short(Database):
        def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
            return super().write(records, maybe_present)[1:]

    stage = stage_on(Short())
    stage.add(make_embedded(3))
    with pytest.raises(HandOverError, match="2 outcomes for 3 records"):
        stage.flush()


def test_a_segment_with_too_few_vectors_is_an_error_and_nothing_is_written() -> None:
    database = Database()
    stage = stage_on(database)
    stage.add(make_embedded(3, vectors=2))
    with pytest.raises(HandOverError, match="2 vectors for 3 chunks"):
        stage.flush()
    assert database.calls == []
