"""Credits: the bytes that may be on their way, granted to parsers, given back by acknowledgements."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from engine.errors import EngineError, UsageError
from engine.runtime.workers.parser import CREDIT_BLOCK_BYTES
from engine.stages.segment import SEGMENT_BYTES

#: A segment may pass `SEGMENT_BYTES` by its last chunk: 32 KiB of text, its ids and a vector.
LARGEST_SEGMENT_BYTES = SEGMENT_BYTES + 2**20


def least_buffer(parsers: int) -> int:
    """The fewest bytes with which so many parsers can't block each other: each may hold nearly a block while
    one waits for the largest segment."""
    return parsers * CREDIT_BLOCK_BYTES + LARGEST_SEGMENT_BYTES


class Credits:
    """`limit` bytes, each of them free, held by a parser that hasn't used it yet, or in flight.

    Raises `UsageError` for a limit with which the parsers could block each other for ever.
    """

    def __init__(self, limit: int, parsers: int) -> None:
        least = least_buffer(parsers)
        if limit < least:
            raise UsageError(
                f"--buffer {limit}: {parsers} parsers and one segment need at least {least}"
                f" ({-(-least // 2**20)}MiB)"
            )
        self._limit = self._free = limit
        self._most = limit - parsers * CREDIT_BLOCK_BYTES
        self._held: dict[str, int] = {}
        self._asked: deque[tuple[str, int]] = deque()
        #: Bytes between a parser's emission and the database's acknowledgement, now and at most so far.
        self.in_flight = 0
        self.peak_in_flight = 0
        #: Bytes of them that have their vectors.
        self._embedded = 0

    @property
    def blocked(self) -> bool:
        """Whether a parser waits."""
        return bool(self._asked)

    def wants_flush(self, idle: bool) -> bool:
        """Whether the indexer should write what it holds rather than wait for more.

        It should where a parser waits, or all are `idle`, and no work is left before the indexer; and already
        when it holds a quarter of all bytes while a parser waits: the rest feeds the model meanwhile.
        """
        if not self._embedded or not (self.blocked or idle):
            return False
        return self._embedded == self.in_flight or (self.blocked and 4 * self._embedded >= self._limit)

    def ask(self, parser: str, size: int) -> None:
        """A parser wants to emit so many bytes. Raises `UsageError` for more than there may ever be.

        Only a picture for a model of very large ones passes `LARGEST_SEGMENT_BYTES`.
        """
        if size > self._most:
            least = self._limit + size - self._most
            raise UsageError(
                f"--buffer {self._limit}: a segment of {size} bytes needs at least {least}"
                f" ({-(-least // 2**20)}MiB)"
            )
        self._asked.append((parser, size))

    def resize(self, limit: int, parsers: int) -> None:
        """Another limit, for so many parsers; what is in use beyond it comes back by and by."""
        self._free += limit - self._limit
        self._limit, self._most = limit, limit - parsers * CREDIT_BLOCK_BYTES

    def grants(self, share: float = 1.0) -> Iterator[tuple[str, int]]:
        """Who gets how much now: first come, first served, so that a large segment is never starved.

        Of all bytes only a `share` may be used (0: none; below 1 at least what makes a single segment pass).
        """
        reserved = 0 if share >= 1 else int(self._limit * (1 - share))
        while self._asked and self._asked[0][1] <= self._free and share > 0:
            if self._free - self._asked[0][1] < reserved and self._free < self._limit:
                return
            parser, size = self._asked.popleft()
            self._free -= size
            self._held[parser] = self._held.get(parser, 0) + size
            yield parser, size

    def emitted(self, parser: str, size: int) -> None:
        """A segment has left its parser. Raises `EngineError` for an overdraft, which is a bug."""
        held = self._held.get(parser, 0) - size
        if held < 0:
            raise EngineError(f"{parser} emitted {size} bytes, {-held} more than it was granted")
        self._held[parser] = held
        self.in_flight += size
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def embedded(self, size: int) -> None:
        """A segment is on its way to the indexer; that it was written may have been told before."""
        self._embedded += size

    def acknowledged(self, size: int) -> None:
        """A segment has been answered by the database."""
        self.in_flight -= size
        self._embedded -= size
        self._free += size
        if self._free > self._limit:
            raise EngineError(f"{self._free - self._limit} bytes were acknowledged that were never granted")

    def forget(self, parser: str) -> None:
        """A parser is gone and nothing of it is on its way unseen: what it held is free again."""
        self._free += self._held.pop(parser, 0)
        self._asked = deque(item for item in self._asked if item[0] != parser)

    def reset(self) -> None:
        """Every process is gone, and what was on its way with them: all of it is free again."""
        self._free, self.in_flight, self._embedded = self._limit, 0, 0
        self._held.clear()
        self._asked.clear()
