"""The states of an item and of a segment during a run, and the transitions between them, in two tables.

What the ledger says of an item on disk is less: everything that has not come to an end is `pending` there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from engine.errors import EngineError


class ItemState(Enum):
    """Where an item stands.

    `FOUND`: a source listed it. `WAITING`: there is something to do with it. `PARSING`: an attempt at it is
    with a parser or waits for one. `PARSED`: that attempt's parse call has ended; segments may be in flight.
    The others are its ends, as `summary.json` counts them.
    """

    FOUND = "found"
    WAITING = "waiting"
    PARSING = "parsing"
    PARSED = "parsed"
    INDEXED = "indexed"
    PARTIAL = "partial"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class ItemEvent(Enum):
    """What happens to an item."""

    ADMITTED = "admitted"
    DISPATCHED = "dispatched"
    SECTION_FAILED = "a section failed"
    SEGMENT_ARRIVED = "a segment arrived"
    SEGMENT_ANSWERED = "a segment was answered"
    PARSE_ENDED = "its parse call ended"
    LOST = "its attempt was lost"
    POISONED = "it was given up"
    SETTLED = "settled"


class SegmentState(Enum):
    """Where a segment stands, as far as the supervisor has heard.

    The inference process and the indexer report by connections of their own, so an answer may be heard before
    what came before it. `EMITTED`: nothing was heard. `INFERRING`: the inference process has it. `INDEXING`:
    it has its vectors and is with the indexer or on its way there. `UNHEARD`: answered, though its arrival
    was not heard of. `ANSWERED`: answered, though its vectors were not heard of. `DONE` and `LOST` are ends.
    """

    EMITTED = "emitted"
    INFERRING = "inferring"
    INDEXING = "indexing"
    UNHEARD = "unheard"
    ANSWERED = "answered"
    DONE = "done"
    LOST = "lost"


class SegmentEvent(Enum):
    """What is heard of a segment."""

    ARRIVED = "arrived"
    EMBEDDED = "embedded"
    ANSWERED = "answered"
    LOST = "lost"


_I, _E = ItemState, ItemEvent

#: To which states an event may take an item from each state.
ITEM_TRANSITIONS: Mapping[tuple[ItemState, ItemEvent], frozenset[ItemState]] = {
    (_I.FOUND, _E.ADMITTED): frozenset((_I.WAITING, _I.PARTIAL, _I.UNCHANGED, _I.SKIPPED, _I.FAILED)),
    (_I.WAITING, _E.DISPATCHED): frozenset((_I.PARSING,)),
    (_I.WAITING, _E.SETTLED): frozenset((_I.SKIPPED,)),
    (_I.PARSING, _E.SECTION_FAILED): frozenset((_I.PARSING,)),
    (_I.PARSING, _E.SEGMENT_ARRIVED): frozenset((_I.PARSING,)),
    (_I.PARSING, _E.SEGMENT_ANSWERED): frozenset((_I.PARSING,)),
    (_I.PARSING, _E.PARSE_ENDED): frozenset((_I.PARSED,)),
    (_I.PARSING, _E.LOST): frozenset((_I.PARSING,)),
    (_I.PARSING, _E.POISONED): frozenset((_I.PARSED,)),
    (_I.PARSED, _E.SEGMENT_ARRIVED): frozenset((_I.PARSED,)),
    (_I.PARSED, _E.SEGMENT_ANSWERED): frozenset((_I.PARSED,)),
    (_I.PARSED, _E.LOST): frozenset((_I.PARSING,)),
    (_I.PARSED, _E.SETTLED): frozenset(
        (_I.WAITING, _I.INDEXED, _I.PARTIAL, _I.UNCHANGED, _I.SKIPPED, _I.FAILED)
    ),
}

_S, _H = SegmentState, SegmentEvent

#: To which state what is heard takes a segment from each state.
SEGMENT_TRANSITIONS: Mapping[tuple[SegmentState, SegmentEvent], SegmentState] = {
    (_S.EMITTED, _H.ARRIVED): _S.INFERRING,
    (_S.EMITTED, _H.ANSWERED): _S.UNHEARD,
    (_S.INFERRING, _H.EMBEDDED): _S.INDEXING,
    (_S.INFERRING, _H.ANSWERED): _S.ANSWERED,
    (_S.INDEXING, _H.ANSWERED): _S.DONE,
    (_S.UNHEARD, _H.ARRIVED): _S.ANSWERED,
    (_S.ANSWERED, _H.EMBEDDED): _S.DONE,
    (_S.INFERRING, _H.LOST): _S.LOST,
    (_S.INDEXING, _H.LOST): _S.LOST,
    (_S.UNHEARD, _H.LOST): _S.LOST,
    (_S.ANSWERED, _H.LOST): _S.LOST,
}


class IllegalTransitionError(EngineError):
    """Something happened that can't happen in that state: a bug, which must never be booked as something
    else."""

    def __init__(self, what: str, state: Enum, event: Enum, target: Enum | None = None) -> None:
        to = "" if target is None else f", which would make it {target.value}"
        super().__init__(f"{what} is {state.value}: {event.value!r} can't happen then{to}")


def next_item_state(uri: str, state: ItemState, event: ItemEvent, target: ItemState) -> ItemState:
    """The target, where the event may take the item there. Raises `IllegalTransitionError`."""
    if target not in ITEM_TRANSITIONS.get((state, event), ()):
        raise IllegalTransitionError(uri, state, event, target)
    return target
