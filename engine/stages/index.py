"""The index stage: embedded segments in, one bulk write at a time, one result for each segment out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from engine.errors import HandOverError
from engine.records import FieldValue, Kind, Record
from engine.stages.segment import EmbeddedSegment

#: Bytes of segments (as they are credited) that one bulk write holds where the caller doesn't say.
BULK_BYTES = 8 * 2**20

#: Seconds that the oldest segment waits for company before it is written, where the caller doesn't say.
BULK_AGE_S = 1.0


class Writes(Protocol):
    """The part of an adapter that this stage needs."""

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        """As in `adapters.base.Adapter`."""


@dataclass(slots=True)
class Written:
    """What became of a segment: `refused` maps a chunk's position to the reason of whoever refused it."""

    segment: EmbeddedSegment
    refused: dict[int, str]


@dataclass
class IndexStage:
    """Gather segments, write them in bulk. Holds at most `bulk_bytes` and one segment.

    `bulk_bytes` should fill all requests that the adapter may have under way at once.
    """

    adapter: Writes
    models: Mapping[Kind, str]
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    bulk_bytes: int = BULK_BYTES
    bulk_age_s: float = BULK_AGE_S
    #: Segments, and whether any of their records may be in the database already.
    _waiting: list[tuple[EmbeddedSegment, bool]] = field(default_factory=list, init=False)
    _written: list[Written] = field(default_factory=list, init=False)
    _bytes: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    def add(self, segment: EmbeddedSegment) -> None:
        """Take a segment in."""
        if not self._waiting:
            self._since = self.clock()
        self._waiting.append((segment, segment.maybe_present))
        self._bytes += segment.size

    def due_in(self) -> float | None:
        """Seconds until a write is due; 0 when it is, None when nothing waits."""
        if not self._waiting:
            return None
        if self._bytes >= self.bulk_bytes:
            return 0.0
        return max(0.0, self._since + self.bulk_age_s - self.clock())

    def flush(self) -> list[Written]:
        """Write what waits. Raises what the adapter raises; the segments then wait on for the next try.

        Segments that may be in the database already are written apart from those that can't be, because an
        adapter may append the latter without a look. Where only the second of the two writes fails, the next
        call gives the results of the first as well.
        """
        now = datetime.now(UTC)
        for maybe_present in (False, True):
            segments = [segment for segment, present in self._waiting if present is maybe_present]
            if not segments:
                continue
            try:
                self._written += self._write(segments, maybe_present, now)
            except BaseException:
                # Nothing is known of the batch: it may be there on the next try.
                self._waiting = [(s, present or not maybe_present) for s, present in self._waiting]
                raise
            self._waiting = [(s, present) for s, present in self._waiting if present is not maybe_present]
            self._bytes = sum(segment.size for segment, _ in self._waiting)
        results, self._written = self._written, []
        return results

    def _write(self, segments: list[EmbeddedSegment], maybe_present: bool, now: datetime) -> list[Written]:
        records: list[Record] = []
        owners: list[tuple[Written, int]] = []
        results = [Written(segment, dict(segment.refused)) for segment in segments]
        for result in results:
            made = result.segment.records(self.models[result.segment.kind], now, self.fields)
            records += made
            owners += [(result, record.position) for record in made]
        outcomes = self.adapter.write(records, maybe_present) if records else []
        if len(outcomes) != len(records):
            what = f"{len(outcomes)} outcomes for {len(records)} records"
            raise HandOverError("from the indexer to the database", what)
        for (result, position), reason in zip(owners, outcomes, strict=True):
            if reason is not None:
                result.refused[position] = reason
        return results
