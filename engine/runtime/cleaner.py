"""Deletes the records that a changed or removed file left behind, once its new ones are acknowledged."""

from __future__ import annotations

from collections.abc import Iterator

from engine.runtime import messages as m
from engine.runtime.ledger import FileRow, Ledger

#: Ids in one delete request, and requests under way at once: together they bound the memory.
SLICE_IDS, REQUESTS = 1000, 2


class Cleaner:
    """Works through the ledger's list of replaced files, one file at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._row: FileRow | None = None
        self._slices: Iterator[list[str]] = iter(())
        self._exhausted = False
        self._waiting: set[int] = set()
        self._number = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is left to delete."""
        return self._row is None and self._ledger.next_replaced() is None

    def requests(self) -> Iterator[m.Delete]:
        """The next requests to send."""
        if self._row is None:
            self._row = self._ledger.next_replaced()
            if self._row is None:
                return
            self._slices = self._ledger.stale_ids(self._row.id, self._row.version, SLICE_IDS)
            self._exhausted = False
        while len(self._waiting) < REQUESTS and not self._exhausted:
            ids = next(self._slices, None)
            if ids is None:
                self._exhausted = True
            else:
                self._number += 1
                self._waiting.add(self._number)
                yield m.Delete(self._number, ids)
        if self._exhausted and not self._waiting:
            self._ledger.drop_older(self._row)
            self._row = None

    def deleted(self, request: int) -> None:
        """The database has deleted that request's ids."""
        self._waiting.discard(request)
