"""What the indexer waits for, and what ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from adapters.base import AdapterOptions
from engine.errors import (
    AccessError,
    DatabaseUnavailableError,
    EngineError,
    SchemaMismatchError,
    UsageError,
)
from engine.runtime import messages as m
from engine.runtime.indexer import IndexerOptions, _Indexer


class Told:
    """A mailbox that keeps what was sent."""

    def __init__(self) -> None:
        self.states: list[str | None] = []

    def send(self, message: object) -> None:
        assert isinstance(message, m.DatabaseState)
        self.states.append(message.trouble)

    @contextmanager
    def waiting(self, side: str) -> Iterator[None]:
        assert side == "out"
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


def make_indexer(told: Any, wrote: bool) -> _Indexer:
    indexer = _Indexer(told, IndexerOptions("memory://name", (), AdapterOptions(), patient=True))
    indexer._wrote = wrote
    return indexer


@pytest.mark.parametrize("wrote", [False, True])
def test_a_database_that_does_not_answer_is_waited_for_and_told_of(told: Told, wrote: bool) -> None:
    away = [DatabaseUnavailableError("no answer"), DatabaseUnavailableError("still none")]
    assert make_indexer(told, wrote)._insist(failing(*away)) == "answer"
    assert told.states == ["no answer", "still none", None]


def test_credentials_refused_after_a_write_are_waited_for(told: Told) -> None:
    expired = [AccessError("expired")] * 2
    assert make_indexer(told, wrote=True)._insist(failing(*expired)) == "answer"
    assert told.states == ["expired", "expired", None]


def test_credentials_refused_before_any_write_are_the_users_to_mend(told: Told) -> None:
    with pytest.raises(AccessError, match="wrong"):
        make_indexer(told, wrote=False)._insist(failing(AccessError("wrong")))
    assert told.states == []


def test_an_index_gone_after_a_write_fails_the_run_and_not_the_command(told: Told) -> None:
    with pytest.raises(EngineError, match="gone") as caught:
        make_indexer(told, wrote=True)._insist(failing(UsageError("gone")))
    assert not isinstance(caught.value, UsageError)
    with pytest.raises(UsageError, match="gone"):
        make_indexer(told, wrote=False)._insist(failing(UsageError("gone")))


def test_a_model_that_does_not_fit_stays_a_matter_of_configuration(told: Told) -> None:
    with pytest.raises(SchemaMismatchError):
        make_indexer(told, wrote=True)._insist(failing(SchemaMismatchError("another model")))
