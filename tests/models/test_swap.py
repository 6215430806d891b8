"""A better form of a model takes its place between two batches, once the work repays the making, or never."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from engine.models.backends.base import BackendChoice, CannotRunError, OnBatch, TextEmbedder
from engine.models.batching import TooLargeError
from engine.models.load import load_text
from engine.models.measure import costs
from engine.models.resolve import resolve_text
from engine.models.swap import Swap, SwappingText
from engine.records import TokenIds, Vector
from tests.integration.runs import wait_until

SPEC = resolve_text("stand-in:8")
IDS = [np.array([1, 5, 2], dtype=np.int32)]


class Named(TextEmbedder):
    """A model whose vectors are all its number."""

    def __init__(self, number: int) -> None:
        self.spec = SPEC
        self.choice = BackendChoice(f"model {number}", "float32")
        self.number = number
        self.growth = number

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        self.padding += 1
        return np.full((len(ids), 8), self.number, dtype=np.float32)

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
        raise NotImplementedError

    def embed_query(self, text: str) -> Vector:
        raise NotImplementedError


def swapping(make: Callable[[int | None], TextEmbedder], cost: float, said: list[str]) -> SwappingText:
    return SwappingText(Swap[TextEmbedder](Named(1), make, cost, 100, said.append))


def test_the_better_model_is_made_once_beside_the_work_and_takes_over_at_a_batch() -> None:
    said: list[str] = []
    rooms: list[int | None] = []
    go = threading.Event()

    def make(room: int | None) -> TextEmbedder:
        rooms.append(room)
        go.wait(120)
        return Named(2)

    model = swapping(make, 0.0, said)
    model.swap.room = 7
    for _ in range(3):  # while it is made, the first goes on
        assert model.embed_ids(IDS).tolist() == [[1.0] * 8]
    assert (model.choice, model.growth) == (BackendChoice("model 1", "float32"), 1)
    go.set()
    wait_until(lambda: model.embed_ids(IDS)[0, 0] == 2)
    assert (model.choice, model.growth) == (BackendChoice("model 2", "float32"), 2)
    assert said == ["model 2 float32 embeds from now on, instead of model 1 float32"]
    assert rooms == [7]
    before = model.padding
    model.embed_ids(IDS)
    assert model.padding == before + 1


def test_nothing_is_made_until_the_work_has_cost_as_much() -> None:
    model = swapping(lambda room: pytest.fail("made too early"), 1e6, [])
    for _ in range(100):
        model.embed_ids(IDS)
    assert model.embed_ids(IDS)[0, 0] == 1


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (CannotRunError("nothing is faster here"), "model 1 float32 stays: nothing is faster here"),
        (RuntimeError("lib\nrary"), "model 1 float32 stays: RuntimeError: lib"),
    ],
)
def test_where_it_can_not_be_made_the_first_stays_and_one_line_says_why(error: Exception, why: str) -> None:
    said: list[str] = []

    def make(room: int | None) -> TextEmbedder:
        raise error

    model = swapping(make, 0.0, said)
    model.embed_ids(IDS)
    wait_until(lambda: said)
    assert model.embed_ids(IDS)[0, 0] == 1
    assert said == [why]


def test_two_models_are_made_one_after_the_other() -> None:
    """Each is told of the whole room that is left."""
    going: list[str] = []
    go = threading.Event()

    def make(name: str) -> Callable[[int | None], TextEmbedder]:
        def made(room: int | None) -> TextEmbedder:
            going.append(name)
            assert len(going) == 1
            go.wait(120)
            going.remove(name)
            return Named(2)

        return made

    models = [swapping(make(name), 0.0, []) for name in ("text", "image")]
    for model in models:
        model.embed_ids(IDS)
    wait_until(lambda: going)
    go.set()
    wait_until(lambda: all(model.embed_ids(IDS)[0, 0] == 2 for model in models))


def test_work_that_fails_has_cost_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Event()

    def make(room: int | None) -> TextEmbedder:
        made.set()
        return Named(2)

    model = swapping(make, 0.02, [])

    def fails(ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        began = time.process_time()
        while time.process_time() - began < 0.03:
            pass
        model.swap.model.padding += 7
        raise TooLargeError(np.zeros((1, 8), dtype=np.float32), [0])

    monkeypatch.setattr(model.swap.model, "embed_ids", fails)
    with pytest.raises(TooLargeError):
        model.embed_ids(IDS)
    assert model.padding == 7
    monkeypatch.undo()
    model.embed_ids(IDS)
    assert made.wait(120)


def test_a_model_without_another_form_is_given_as_it_is() -> None:
    said: list[str] = []
    assert not isinstance(load_text(SPEC, say=said.append), SwappingText)
    assert said == []


def test_costs_are_what_they_were_the_last_time_on_this_machine() -> None:
    first = costs.expected("export")
    assert first == costs.FIRST_GUESS_S["export"]
    costs.remember("export", 3.5)
    assert costs.expected("export") == 3.5
    assert costs.expected("calibration") == costs.FIRST_GUESS_S["calibration"]
