"""Items take only the transitions of their table, and between them runs take every one of them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from engine.runtime.ledger import accounts, settling
from engine.runtime.ledger.states import (
    ITEM_TRANSITIONS,
    IllegalTransitionError,
    ItemEvent,
    ItemState,
    next_item_state,
)
from engine.sources.base import LeftOut, Unreadable
from tests.runtime.simulation import Content, Database, Piece, Run

ENDS = {state for state in ItemState if not any(at is state for at, _ in ITEM_TRANSITIONS)}

#: Whole, with a page that can't be parsed, with a refused chunk, failed, without text, and empty.
KINDS = (
    Content((Piece(("a", "b")), Piece(("c",)))),
    Content((Piece(("a",)), None, Piece(("b",)))),
    Content((Piece(("a", "b"), refused=1),)),
    Content((Piece(("a",)),), failed=True),
    Content((None,), failed=True),
    Content(()),
    Content((), size=0),
)


def test_the_ends_are_those_that_a_run_counts() -> None:
    assert {state.value for state in ENDS} == {"indexed", "partial", "unchanged", "skipped", "failed"}
    for state in ItemState:
        reached, new = {state}, {state}
        while new:
            new = {to for (at, _), targets in ITEM_TRANSITIONS.items() if at in new for to in targets}
            new -= reached
            reached |= new
        assert state in ENDS or reached >= ENDS


@pytest.mark.parametrize(("state", "event"), [*itertools.product(ItemState, ItemEvent)])
def test_what_can_not_happen_in_a_state_is_an_error_that_names_item_state_and_event(
    state: ItemState, event: ItemEvent
) -> None:
    for target in ItemState:
        if target in ITEM_TRANSITIONS.get((state, event), ()):
            assert next_item_state("/a", state, event, target) is target
            continue
        with pytest.raises(IllegalTransitionError) as refused:
            next_item_state("/a", state, event, target)
        told = str(refused.value)
        assert told.startswith(f"/a is {state.value}: {event.value!r}")
        assert target.value in told


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[ItemState, ItemEvent, ItemState]]]:
    """The transitions that are taken."""
    found: set[tuple[ItemState, ItemEvent, ItemState]] = set()

    def record(uri: str, state: ItemState, event: ItemEvent, target: ItemState) -> ItemState:
        found.add((state, event, target))
        return next_item_state(uri, state, event, target)

    for module in (accounts, settling):
        monkeypatch.setattr(module, "next_item_state", record)
    # Each look at an item finds it another one.
    monkeypatch.setattr(settling, "item_now", lambda item: replace(item, version=f"{item.version}'"))
    yield found


def test_random_runs_with_deaths_and_changes_take_every_transition_and_no_other(
    taken: set[tuple[ItemState, ItemEvent, ItemState]],
) -> None:
    wanted = {(at, event, to) for (at, event), targets in ITEM_TRANSITIONS.items() for to in targets}
    for seed in range(400):
        random = Random(seed)
        with tempfile.TemporaryDirectory() as name:
            database = Database()
            for number in range(random.randint(1, 3)):
                paths = random.sample(["/a", "/b", "/c", "/d"], random.randint(1, 4))
                corpus = {
                    path: replace(random.choice(KINDS), mtime_ns=random.randint(1, 2)) for path in paths
                }
                changing = {path for path in paths if random.random() < 0.1}
                run = Run(
                    Path(name), corpus, database, random, changing=changing, skip_failed=bool(number),
                    beside=(LeftOut("/hidden", "hidden"), Unreadable("/locked", "permission denied")),
                )  # fmt: skip
                deaths, collapses, lane_deaths = (random.randint(0, most) for most in (12, 1, 1))
                run.crashing = random.choice((0.3, 1.0))
                run.go(deaths, random.choice((None, 40)), collapses, lane_deaths)
        if taken >= wanted:
            break
    assert taken == wanted
