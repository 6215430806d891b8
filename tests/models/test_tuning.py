"""The size of a batch that is fastest is found by trying, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from engine.models import tuning
from engine.models.memory import Batches
from engine.models.resolve import resolve_text
from engine.models.text_load import load_text_model
from engine.models.tuning import fastest, tune

SIZES = (8, 16, 32, 64)


class Clock:
    """A device whose units take so long in a batch of a given size, with memory for batches up to `room`."""

    def __init__(
        self, cost: Callable[[int], float], monkeypatch: pytest.MonkeyPatch, room: int = 1_000
    ) -> None:
        self.now, self.calls = 0.0, 0
        self.batches = Batches(torch.device("cpu"), 1)
        self._cost, self._room = cost, room
        monkeypatch.setattr(tuning, "time", self)

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter

    def embed(self, units: int) -> None:
        self.calls += 1
        self.batches.budget = min(self.batches.budget, self._room)
        self.now += units * self._cost(self.batches.budget)


@pytest.mark.parametrize(
    ("cost", "room", "expected"),
    [
        (lambda size: 1 / size, 1_000, 64),
        (lambda size: 0.001, 1_000, 8),
        (lambda size: abs(size - 20), 1_000, 16),
        (lambda size: 1 / size, 20, 16),
        (lambda size: 1 / size, 4, 4),
    ],
    ids=["larger is faster", "all alike", "in between", "memory for two", "memory for none"],
)
def test_the_smallest_of_the_fastest_sizes_that_fit_is_taken(
    cost: Callable[[int], float], room: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "PATIENCE_S", 1e9)
    clock = Clock(cost, monkeypatch, room)
    tune(clock.batches, "model", SIZES, clock.embed)
    assert clock.batches.budget == expected


def test_a_size_is_remembered_for_the_model_and_the_search_ends_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = Clock(lambda size: 1.0, monkeypatch)
    tune(slow.batches, "model", SIZES, slow.embed)
    assert slow.calls == 1 + tuning.ROUNDS
    tune(slow.batches, "model", SIZES, slow.embed)
    assert slow.calls == 1 + tuning.ROUNDS
    tune(slow.batches, "another", SIZES, slow.embed)
    assert slow.calls == 2 * (1 + tuning.ROUNDS)


def test_a_real_model_is_tuned_with_real_batches(bert: Path) -> None:
    model = load_text_model(resolve_text(str(bert)), "cpu")
    model.tune((256, 512))
    assert model._batches.budget in (256, 512)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"first": 1.0, "second": 0.5}, "second"),
        ({"first": 1.0, "second": 0.99}, "first"),
        ({"first": 1.0, "second": 2.0}, "first"),
        ({"first": 1.0, "second": 0.9, "third": 0.8}, "third"),
        ({"first": 1.0}, "first"),
    ],
)
def test_the_first_way_is_taken_unless_another_is_clearly_faster_and_that_is_remembered(
    seconds: dict[str, float], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, calls = [0.0], 0

    def run(way: str) -> None:
        nonlocal calls
        calls += 1
        now[0] += seconds[way]

    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])  # type: ignore[attr-defined]
    ways = {way: partial(run, way) for way in seconds}
    place = torch.device("cpu")
    assert fastest(place, "model", ways) == expected
    tried = calls
    assert tried == len(ways) * (1 + tuning.ROUNDS)
    assert fastest(place, "model", ways) == expected
    assert calls == tried
    fastest(place, "another", ways)
    assert calls == 2 * tried
