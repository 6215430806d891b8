"""What the indexer waits for, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from adapters import memory
from adapters.base import AdapterOptions
from adapters.memory import MemoryAdapter
from engine.errors import (
    AccessError,
    DatabaseUnavailableError,
    EngineError,
    SchemaMismatchError,
    UsageError,
)
from engine.records import Record, record_id
from engine.runtime.process import messages as m
from engine.runtime.workers import indexer as module
from engine.runtime.workers.indexer import IndexerOptions, _Indexer, _Retry
from tests.records import make_records, make_schema


class Told:
    """A mailbox that keeps what was sent."""

    def __init__(self) -> None:
        self.states: list[str | None] = []
        self.found: list[m.Found] = []

    def send(self, message: object) -> None:
        if isinstance(message, m.Found):
            self.found.append(message)
            return
        assert isinstance(message, m.DatabaseState)
        self.states.append(message.trouble)

    @contextmanager
    def waiting(self, side: str, on: str) -> Iterator[None]:
        assert (side, on) == ("out", "database")
        yield

    def step(self) -> None:
        pass


def failing(*errors: Exception) -> Callable[[], str]:
    """Raises each of the errors once, then answers."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return Told()


def retrying(told: Any, wrote: bool) -> _Retry:
    retry = _Retry(told)
    retry.wrote = wrote
    return retry


def make_indexer(told: Any, index: MemoryAdapter) -> _Indexer:
    options = IndexerOptions("memory://name", (), AdapterOptions(), patient=True)
    return _Indexer(told, retrying(told, wrote=False), index, options)


@pytest.mark.parametrize("wrote", [False, True])
def test_a_database_that_does_not_answer_is_waited_for_and_told_of(told: Told, wrote: bool) -> None:
    away = [DatabaseUnavailableError("no answer"), DatabaseUnavailableError("still none")]
    assert retrying(told, wrote)(failing(*away)) == "answer"
    assert told.states == ["no answer", "still none", None]


def test_credentials_refused_after_a_write_are_waited_for(told: Told) -> None:
    expired = [AccessError("expired")] * 2
    assert retrying(told, wrote=True)(failing(*expired)) == "answer"
    assert told.states == ["expired", "expired", None]


def test_credentials_refused_before_any_write_are_the_users_to_mend(told: Told) -> None:
    with pytest.raises(AccessError, match="wrong"):
        retrying(told, wrote=False)(failing(AccessError("wrong")))
    assert told.states == []


def test_an_index_gone_after_a_write_fails_the_run_and_not_the_command(told: Told) -> None:
    with pytest.raises(EngineError, match="gone") as caught:
        retrying(told, wrote=True)(failing(UsageError("gone")))
    assert not isinstance(caught.value, UsageError)
    with pytest.raises(UsageError, match="gone"):
        retrying(told, wrote=False)(failing(UsageError("gone")))


def test_a_model_that_does_not_fit_stays_a_matter_of_configuration(told: Told) -> None:
    with pytest.raises(SchemaMismatchError):
        retrying(told, wrote=True)(failing(SchemaMismatchError("another model")))


# Sweeps


def made_with(chunker: str, record: Record) -> Record:
    """The record as that chunker would have made it."""
    digest = ("d" if record.kind == "text" else "e") * 64
    where = (record.page, record.start, record.end)
    return replace(record, id=record_id(record.source, *where, record.content_hash, chunker, digest))


class Unsteady(MemoryAdapter):
    """A database that goes away in the middle of a scan, once."""

    steady = False

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        for number, row in enumerate(super().scan(with_embeddings, source)):
            if number == 3 and not self.steady:
                self.steady = True
                raise DatabaseUnavailableError("no answer")
            yield row


@pytest.fixture
def index() -> Iterator[Unsteady]:
    adapter = Unsteady("sweeps")
    adapter.ensure_schema(make_schema())
    yield adapter
    memory.drop("sweeps")


def found(told: Told, indexer: _Indexer, source: str) -> list[list[str]]:
    """The slices of a whole sweep."""
    slices: list[list[str]] = []
    while True:
        indexer._router(m.Sweep(len(slices), source, ("mine", "older")))
        answer = told.found.pop()
        assert answer.request == len(slices)
        slices.append(answer.ids)
        if answer.last:
            return slices


def test_a_sweep_names_what_this_runs_chunkers_made_of_the_file_and_nothing_else(
    told: Told, index: Unsteady, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_IDS", 4)
    index.steady = True
    texts = make_records(6)
    mine = [made_with(("mine", "older")[i % 2], record) for i, record in enumerate(texts)]
    pictures = [made_with("", record) for record in make_records(1, "image")]
    theirs = [made_with("theirs", record) for record in texts]
    elsewhere = [made_with("mine", record) for record in make_records(3, seed=1)]
    index.write([*theirs, *mine, *pictures, *elsewhere], maybe_present=False)
    indexer = make_indexer(told, index)
    slices = found(told, indexer, texts[0].source)
    assert [len(ids) for ids in slices] == [4, 3]
    assert {one for ids in slices for one in ids} == {record.id for record in (*mine, *pictures)}
    assert [len(ids) for ids in found(told, indexer, elsewhere[0].source)] == [3]
    assert found(told, indexer, "/nowhere") == [[]]


def test_a_sweep_that_the_database_cuts_off_leaves_nothing_out(
    told: Told, index: Unsteady, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_IDS", 2)
    records = [made_with("mine", record) for record in make_records(5)]
    index.write(records, maybe_present=False)
    slices = found(told, make_indexer(told, index), records[0].source)
    assert told.states == ["no answer", None]
    assert {one for ids in slices for one in ids} == {record.id for record in records}
