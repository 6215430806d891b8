"""Deletes records that the ledger doesn't name: what an attempt had written and its run never booked.

Between the database's acknowledgement and the ledger's commit a run may be killed. Where the same is parsed
again, the same records come out, and are booked. Where the item has changed meanwhile, or is gone, or is cut
into other chunks, nothing would ever name them. So the database is asked for the records of such an item once
it has come to its end, when none of its segments is on the way; those that no segment names are deleted.

Several run directories may fill one index. Deleted is only what a chunker of this very run directory made
out of this very item: what another one cuts with other sizes stays, and of the same content and chunks the
ids are the same. What remains is that another one's records of an *older* content of the item may go before
it has replaced them itself, which is what happens to ids that both have booked, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.runtime.ledger.items import ItemRow
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m


class Sweeper:
    """One item after the other, and one request at a time; `numbers` gives each request its number.

    An item's mark in the ledger goes with the last of its records: a sweep that is cut off begins anew.
    """

    def __init__(self, ledger: Ledger, numbers: Iterator[int]) -> None:
        self._ledger = ledger
        self._numbers = numbers
        self.reset()

    def reset(self) -> None:
        """The request that is under way is lost: begin anew with its item."""
        self._row: ItemRow | None = None
        self._stale: list[str] = []
        self._seen_all = False
        self._under_way: int | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is left to sweep."""
        return self._row is None and self._ledger.leftovers.next_sweep() is None

    def requests(self) -> Iterator[m.Delete | m.Sweep]:
        """The next request, if it is time for one. Commit the ledger first."""
        while self._under_way is None and (row := self._item()) is not None:
            if not self._stale and self._seen_all:
                self._ledger.leftovers.end_sweep(row.id)
                self._row = None
                continue
            number = self._under_way = next(self._numbers)
            if self._stale:
                stale, self._stale = self._stale, []
                yield m.Delete(number, stale)
            else:
                yield m.Sweep(number, row.uri, self._chunkers())

    def found(self, answer: m.Found) -> None:
        """Of these records those that no segment names are next to be deleted."""
        if answer.request == self._under_way:
            self._under_way = None
            self._stale, self._seen_all = self._ledger.leftovers.unnamed(answer.ids), answer.last

    def deleted(self, request: int) -> None:
        """The database has deleted that request's ids; those of others are none of this one's business."""
        if request == self._under_way:
            self._under_way = None

    def _item(self) -> ItemRow | None:
        """The item at hand, or the next one that waits."""
        if self._row is None:
            self._row, self._seen_all = self._ledger.leftovers.next_sweep(), False
            if self._row is not None:
                self._ledger.leftovers.begin_sweep(self._row.id)
        return self._row

    def _chunkers(self) -> tuple[str, ...]:
        return tuple(sorted({name.partition(" ")[0] for name in self._ledger.generations()}))
