"""Credits: the bytes that may be in flight, granted to parsers, given back by acknowledgements."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from engine.errors import EngineError, UsageError
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.workers.parser import CREDIT_BLOCK_BYTES
from engine.stages.segment import SEGMENT_BYTES

#: A segment may pass `SEGMENT_BYTES` by its last chunk: 32 KiB of text, its ids and a vector.
LARGEST_SEGMENT_BYTES = SEGMENT_BYTES + 2**20

#: Times the limit that a lane's acknowledged bytes are counted before they count half: what it did lately
#: says how fast it is.
RECENT_BUFFERS = 4


def least_buffer(parsers: int, lanes: int = 1) -> int:
    """The fewest bytes with which so many parsers can't block each other: each may hold nearly a block while
    one of each lane waits for the largest segment."""
    return parsers * CREDIT_BLOCK_BYTES + lanes * LARGEST_SEGMENT_BYTES


@dataclass(slots=True)
class _Share:
    """What a lane may use of the pool. It may have so many `parsers`."""

    parsers: int
    #: Bytes that each parser was granted and hasn't used, and the requests, oldest first.
    held: dict[str, int] = field(default_factory=dict)
    asked: deque[tuple[str, int]] = field(default_factory=deque)
    #: Bytes that were acknowledged lately; all of them, and when the first bytes were emitted.
    acknowledged: int = 0
    written: int = 0
    since: float | None = None


class Credits:
    """`limit` bytes, each of them free, held by a parser that hasn't used it yet, or in flight: that is told
    by `in_flight`, the one account of segments.

    `parsers` is how many each lane may have, by its name. Each lane can always use the least that its parsers
    need; beyond that, who has the least in flight for its speed comes first. Raises `UsageError` for a limit
    with which the parsers could block each other for ever.
    """

    def __init__(self, limit: int, parsers: Mapping[str, int], in_flight: InFlight) -> None:
        count, lanes = sum(parsers.values()), len(parsers)
        least = least_buffer(count, lanes)
        if limit < least:
            what = f"{count} parsers and one segment" if lanes == 1 else f"{count} parsers of {lanes} devices"
            raise UsageError(f"--buffer {limit}: {what} need at least {least} ({-(-least // 2**20)}MiB)")
        self.limit = limit
        self._lanes = {name: _Share(number) for name, number in parsers.items()}
        self._flights = in_flight

    @property
    def in_flight(self) -> int:
        """Bytes between a parser's emission and the database's acknowledgement."""
        return self._flights.bytes()

    @property
    def peak_in_flight(self) -> int:
        """The most bytes that ever were."""
        return self._flights.peak

    @property
    def free(self) -> int:
        """Bytes that nobody uses."""
        return self.limit - sum(self._used(lane) for lane in self._lanes)

    def _used(self, lane: str) -> int:
        return self._flights.bytes(lane) + sum(self._lanes[lane].held.values())

    def _lacks(self, lane: str) -> int:
        """Bytes that must stay free for a lane, so that it goes on whatever the others do."""
        return max(0, least_buffer(self._lanes[lane].parsers) - self._used(lane))

    @property
    def blocked(self) -> bool:
        """Whether a parser waits."""
        return any(share.asked for share in self._lanes.values())

    def wants_flush(self, idle: bool) -> bool:
        """Whether the indexer should write what it holds rather than wait for more.

        It should where a parser waits and nothing of its lane is left before the indexer; or all parsers are
        `idle` and nothing at all is; and already when it holds a quarter of all bytes while a parser waits:
        the rest feeds the models meanwhile.
        """
        flights = self._flights
        indexing = flights.indexing()
        if indexing and (idle or self.blocked) and indexing == flights.bytes():
            return True
        return self.blocked and (
            4 * indexing >= self.limit
            or any(
                share.asked and 0 < flights.indexing(name) == flights.bytes(name)
                for name, share in self._lanes.items()
            )
        )

    def ask(self, lane: str, parser: str, size: int) -> None:
        """A parser wants to emit so many bytes. Raises `UsageError` for more than there may ever be.

        Only a picture for a model of very large ones passes `LARGEST_SEGMENT_BYTES`.
        """
        others = sum(least_buffer(share.parsers) for name, share in self._lanes.items() if name != lane)
        most = self.limit - others - self._lanes[lane].parsers * CREDIT_BLOCK_BYTES
        if size > most:
            least = self.limit + size - most
            raise UsageError(
                f"--buffer {self.limit}: a segment of {size} bytes needs at least {least}"
                f" ({-(-least // 2**20)}MiB)"
            )
        self._lanes[lane].asked.append((parser, size))

    def resize(self, limit: int, parsers: Mapping[str, int]) -> None:
        """Another limit, for so many parsers of each lane; what is in use beyond it comes back by and by.

        A lane that is not named is gone. Nothing of it may be in use.
        """
        self.limit = limit
        self._lanes = {name: self._lanes[name] for name in parsers}
        for name, number in parsers.items():
            self._lanes[name].parsers = number

    def load(self, lane: str, more: int = 0) -> float:
        """What waits for a lane's device, and `more` bytes, for its speed: by this the lanes are compared."""
        return self._for_its_speed(lane, self.waiting(lane) + more)

    def waiting(self, lane: str) -> int:
        """Bytes that have arrived at a lane's device and have no vectors yet."""
        return self._flights.bytes(lane) - self._flights.indexing(lane)

    def speed(self, lane: str) -> float:
        """Bytes a second that were acknowledged of a lane, since its first ones were emitted."""
        share = self._lanes[lane]
        seconds = 0.0 if share.since is None else time.monotonic() - share.since
        return share.written / seconds if seconds > 0 else 0.0

    def _for_its_speed(self, lane: str, size: int) -> float:
        # What it was given at first counts as done, so that all begin alike.
        return size / (self._lanes[lane].acknowledged + self.limit / len(self._lanes))

    def grants(self, share: float = 1.0, held_back: Collection[str] = ()) -> Iterator[tuple[str, int]]:
        """Which parser gets how much now: in each lane first come, first served, so that a large segment is
        never starved; of the lanes the one with the least load first. Those that are `held_back` get nothing.

        Of all bytes only a `share` may be used (0: none; below 1 at least what makes a single segment pass).
        """
        reserved = 0 if share >= 1 else int(self.limit * (1 - share))
        while share > 0:
            waiting = [name for name, lane in self._lanes.items() if lane.asked and name not in held_back]
            if not waiting:
                return
            name = min(waiting, key=lambda name: self._for_its_speed(name, self._used(name)))
            lane = self._lanes[name]
            parser, size = lane.asked[0]
            free, others = self.free, sum(self._lacks(other) for other in self._lanes if other != name)
            # Not the next one instead, which could keep this one waiting for ever.
            if size > free - others:
                return
            if free - size < reserved and free < self.limit:
                return
            lane.asked.popleft()
            lane.held[parser] = lane.held.get(parser, 0) + size
            yield parser, size

    def emitted(self, lane: str, parser: str, size: int) -> None:
        """A segment has left its parser and is in flight. Raises `EngineError` for an overdraft, which is a
        bug."""
        share = self._lanes[lane]
        held = share.held.get(parser, 0) - size
        if held < 0:
            raise EngineError(f"{parser} emitted {size} bytes, {-held} more than it was granted")
        share.held[parser] = held
        if share.since is None:
            share.since = time.monotonic()

    def acknowledged(self, lane: str, size: int) -> None:
        """A segment has been answered by the database, which says how fast the lane is."""
        share = self._lanes[lane]
        share.acknowledged += size
        share.written += size
        if share.acknowledged > RECENT_BUFFERS * self.limit:
            for each in self._lanes.values():
                each.acknowledged //= 2

    def forget(self, lane: str, parser: str) -> None:
        """A parser is gone and nothing of it is on its way unseen: what it held is free again."""
        share = self._lanes[lane]
        share.held.pop(parser, None)
        share.asked = deque(item for item in share.asked if item[0] != parser)

    def cut_off(self, lane: str) -> None:
        """A lane's parsers are gone: they wait for nothing more. What they had stays in use."""
        self._lanes[lane].asked.clear()

    def forget_lane(self, lane: str) -> None:
        """A lane's processes are gone, and all that the database will ever acknowledge of it is: what its
        parsers held is free again."""
        share = self._lanes[lane]
        self._lanes[lane] = _Share(share.parsers, acknowledged=share.acknowledged)

    def reset(self) -> None:
        """Every process is gone: what parsers held is free again."""
        for lane in self._lanes:
            self.forget_lane(lane)
