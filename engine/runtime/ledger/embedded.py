"""How much of the items under way has been embedded, in bytes of their files: for the progress line."""

from __future__ import annotations

from collections.abc import Mapping

from engine.runtime.ledger.settling import Work


class EmbeddedBytes:
    """Adds up items of which everything is embedded, so that a look costs only what the others are many."""

    def __init__(self) -> None:
        self._whole: set[Work] = set()
        self._whole_size = 0
        #: Chunks that are embedded of the other items.
        self._chunks: dict[Work, int] = {}

    def add(self, work: Work, chunks: int) -> None:
        """So many more chunks of the item's newest attempt have their vectors."""
        if work in self._whole:
            return
        chunks += self._chunks.get(work, 0)
        if work.end is not None and work.arrived >= work.end.segments and chunks >= work.arrived_chunks:
            self._chunks.pop(work, None)
            self._whole.add(work)
            self._whole_size += work.item.size
        else:
            self._chunks[work] = chunks

    def forget(self, work: Work) -> None:
        """The item has come to its end, or is parsed once more."""
        self._chunks.pop(work, None)
        if work in self._whole:
            self._whole.remove(work)
            self._whole_size -= work.item.size

    def size(self, shares: Mapping[int, float]) -> float:
        """Bytes. `shares`: what part of its item each attempt has read; one whose parsing has ended has read
        all. Of what was read as much is embedded as of the chunks that arrived."""
        return self._whole_size + sum(
            work.item.size
            * (shares.get(work.attempts[-1], 0.0) if work.end is None else 1.0)
            * min(1.0, chunks / max(1, work.arrived_chunks))
            for work, chunks in self._chunks.items()
            if work.attempts
        )
