"""One account of segments and bytes in flight: each segment takes only the transitions of its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.errors import HandOverError
from engine.runtime.ledger.in_flight import OPEN, InFlight
from engine.runtime.ledger.states import (
    SEGMENT_TRANSITIONS,
    IllegalTransitionError,
    SegmentEvent,
    SegmentState,
)

SIZES = {0: 1, 1: 20, 2: 300}
LANES = ("cpu", "gpu")
ENDS = (SegmentState.DONE, SegmentState.LOST)

attempts = st.integers(1, 4)
ordinals = st.sampled_from(sorted(SIZES))


class Walk(RuleBasedStateMachine):
    """All that may be heard of some segments, in any order, beside their states by the table alone."""

    def __init__(self) -> None:
        super().__init__()
        self.real = InFlight()
        self.states: dict[tuple[int, int], SegmentState] = {}
        self.peak = 0

    def lane(self, attempt: int) -> str:
        return LANES[attempt % 2]

    @rule(attempt=attempts, ordinal=ordinals, event=st.sampled_from(list(SegmentEvent)[:3]))
    def hear(self, attempt: int, ordinal: int, event: SegmentEvent) -> None:
        before = self.states.get((attempt, ordinal), SegmentState.EMITTED)
        after = SEGMENT_TRANSITIONS.get((before, event))
        more = ("/a", self.lane(attempt), attempt, ordinal, SIZES[ordinal], 1)
        call: Callable[[], None] = {
            SegmentEvent.ARRIVED: partial(self.real.arrived, *more),
            SegmentEvent.EMBEDDED: partial(self.real.embedded, attempt, ordinal),
            SegmentEvent.ANSWERED: partial(self.real.answered, *more),
        }[event]
        if after is None:
            with pytest.raises(IllegalTransitionError) as refused:
                call()
            told = str(refused.value)
            name = "an item" if before is SegmentState.EMITTED and event is SegmentEvent.EMBEDDED else "/a"
            assert told.startswith(f"segment {ordinal} of {name} (attempt {attempt}) is {before.value}:")
            assert repr(event.value) in told
            return
        call()
        self.states[attempt, ordinal] = after
        if after in ENDS:
            del self.states[attempt, ordinal]

    @rule(lane=st.sampled_from((*LANES, None)))
    def lose(self, lane: str | None) -> None:
        self.real.lose(lane)
        for attempt, ordinal in list(self.states):
            if lane in (None, self.lane(attempt)):
                del self.states[attempt, ordinal]

    @invariant()
    def adds_up(self) -> None:
        sizes: Counter[tuple[str, SegmentState]] = Counter()
        for (attempt, ordinal), state in self.states.items():
            sizes[self.lane(attempt), state] += SIZES[ordinal]
        for lane in LANES:
            indexing = sizes[lane, SegmentState.INDEXING]
            assert self.real.indexing(lane) == indexing
            assert self.real.bytes(lane) == sizes[lane, SegmentState.INFERRING] + indexing
        assert self.real.bytes() == sum(self.real.bytes(lane) for lane in LANES)
        assert self.real.indexing() == sum(self.real.indexing(lane) for lane in LANES)
        self.peak = max(self.peak, self.real.bytes())
        assert self.real.peak == self.peak

    @invariant()
    def knows_what_each_item_waits_for(self) -> None:
        for chosen in ((1,), (2, 3), (1, 2, 3, 4)):
            mine = {key: state for key, state in self.states.items() if key[0] in chosen}
            assert self.real.is_open(chosen) == any(state in OPEN for state in mine.values())
            flying = (SegmentState.INFERRING, SegmentState.INDEXING)
            assert self.real.unanswered(chosen) == {n for (_, n), state in mine.items() if state in flying}


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)


def test_every_state_but_the_ends_leads_to_an_end() -> None:
    for state in SegmentState:
        reached, new = {state}, {state}
        while new:
            new = {to for (at, _), to in SEGMENT_TRANSITIONS.items() if at in new} - reached
            reached |= new
        assert state in ENDS or reached >= set(ENDS)
        assert state not in ENDS or reached == {state}


@pytest.mark.parametrize("answer_first", [True, False])
def test_a_segment_that_is_answered_for_other_chunks_than_arrived_is_an_error(answer_first: bool) -> None:
    flights = InFlight()
    with pytest.raises(HandOverError, match=r"2 chunks of a segment left, 1 were answered \(/a\)"):
        if answer_first:
            flights.answered("/a", "cpu", 1, 0, 10, 1)
        flights.arrived("/a", "cpu", 1, 0, 10, 2)
        flights.answered("/a", "cpu", 1, 0, 10, 1)
