"""Every segment between its arrival at an inference process and the database's answer: the one account of
segments and bytes in flight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.errors import HandOverError
from engine.runtime.ledger.states import (
    SEGMENT_TRANSITIONS,
    IllegalTransitionError,
    SegmentEvent,
    SegmentState,
)

#: States of a segment for which its item has to wait: of the others everything has been heard that matters
#: to it.
OPEN = (SegmentState.INFERRING, SegmentState.INDEXING, SegmentState.UNHEARD)


@dataclass(slots=True)
class _Flight:
    """A segment of the item with that URI. `size` is in bytes; `chunks` is how many were received, or were
    answered where that was heard first."""

    state: SegmentState
    uri: str
    lane: str
    size: int
    chunks: int


@dataclass(slots=True)
class _Sums:
    """What a lane has in flight, in bytes, and how much of it has its vectors."""

    size: int = 0
    indexing: int = 0


@dataclass(slots=True)
class _Attempt:
    """The segments of an attempt by ordinal, and how many of them its item waits for."""

    flights: dict[int, _Flight] = field(default_factory=dict)
    open: int = 0


class InFlight:
    """Segments are told by attempt and ordinal. Each method books one thing that was heard.

    Raises `IllegalTransitionError` for what can't happen to a segment in its state, and `HandOverError` where
    the database answers for more or fewer chunks than were received.
    """

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}
        self._lanes: defaultdict[str, _Sums] = defaultdict(_Sums)
        self._size = 0
        #: The most bytes that were ever in flight.
        self.peak = 0

    def bytes(self, lane: str | None = None) -> int:
        """Bytes that have arrived and were not answered, of one lane or of all."""
        return self._size if lane is None else self._lanes[lane].size

    def indexing(self, lane: str | None = None) -> int:
        """Those of the bytes that have their vectors."""
        if lane is None:
            return sum(sums.indexing for sums in self._lanes.values())
        return self._lanes[lane].indexing

    def arrived(self, uri: str, lane: str, attempt: int, ordinal: int, size: int, chunks: int) -> None:
        """The inference process of the lane has received a segment."""
        flight = _Flight(SegmentState.EMITTED, uri, lane, size, chunks)
        self._compare(chunks, self._hear(SegmentEvent.ARRIVED, attempt, ordinal, flight), uri)

    def embedded(self, attempt: int, ordinal: int) -> None:
        """A segment has its vectors."""
        self._hear(SegmentEvent.EMBEDDED, attempt, ordinal)

    def answered(self, uri: str, lane: str, attempt: int, ordinal: int, size: int, chunks: int) -> None:
        """The database has answered for a segment."""
        flight = _Flight(SegmentState.EMITTED, uri, lane, size, chunks)
        self._compare(self._hear(SegmentEvent.ANSWERED, attempt, ordinal, flight), chunks, uri)

    def is_open(self, attempts: Iterable[int]) -> bool:
        """Whether an item with these attempts has to wait for a segment."""
        return any(self._attempts[number].open for number in attempts if number in self._attempts)

    def unanswered(self, attempts: Iterable[int]) -> set[int]:
        """The ordinals of these attempts that have arrived and were not answered."""
        waits = (SegmentState.INFERRING, SegmentState.INDEXING)
        return {
            ordinal
            for number in attempts
            if number in self._attempts
            for ordinal, flight in self._attempts[number].flights.items()
            if flight.state in waits
        }

    def lose(self, lane: str | None = None) -> None:
        """Nothing more is ever heard of what is left of this lane, or of all."""
        for number, attempt in list(self._attempts.items()):
            for ordinal, flight in list(attempt.flights.items()):
                if lane in (None, flight.lane):
                    self._hear(SegmentEvent.LOST, number, ordinal)

    def _hear(self, event: SegmentEvent, attempt: int, ordinal: int, emitted: _Flight | None = None) -> int:
        """Book the event; `emitted` is the segment where nothing of it was heard yet. Returns its chunks."""
        mine = self._attempts.get(attempt) or _Attempt()
        flight = mine.flights.get(ordinal) or emitted or _Flight(SegmentState.EMITTED, "", "", 0, 0)
        before = flight.state
        after = SEGMENT_TRANSITIONS.get((before, event))
        if after is None:
            what = f"segment {ordinal} of {flight.uri or 'an item'} (attempt {attempt})"
            raise IllegalTransitionError(what, before, event)
        self._count(flight, -1)
        flight.state = after
        self._count(flight, 1)
        mine.open += (after in OPEN) - (before in OPEN)
        if after in (SegmentState.DONE, SegmentState.LOST):
            del mine.flights[ordinal]
        else:
            mine.flights[ordinal] = flight
            self._attempts[attempt] = mine
        if not mine.flights:
            del self._attempts[attempt]
        return flight.chunks

    def _count(self, flight: _Flight, sign: int) -> None:
        """Add a segment's bytes where they are in flight, or take them away."""
        if flight.state in (SegmentState.INFERRING, SegmentState.INDEXING):
            sums = self._lanes[flight.lane]
            sums.size += sign * flight.size
            sums.indexing += sign * flight.size * (flight.state is SegmentState.INDEXING)
            self._size += sign * flight.size
            self.peak = max(self.peak, self._size)

    def _compare(self, received: int, answered: int, uri: str) -> None:
        if received != answered:
            raise HandOverError(
                "from the inference process to the database",
                f"{received} chunks of a segment left, {answered} were answered ({uri})",
            )
