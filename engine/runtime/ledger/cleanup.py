"""Deletes the records that a changed or removed item left behind, once its new ones are acknowledged.

Most of them the ledger names. Others only a sweep finds: those that a killed run had written and not booked.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from engine.runtime.ledger.items import ItemRow
from engine.runtime.ledger.store import Ledger
from engine.runtime.ledger.sweep import Sweeper
from engine.runtime.process import messages as m

#: Ids in one delete request (nearly twice as many at most) and items that one ends, and requests under way at
#: once: together they bound the memory.
SLICE_IDS, REQUESTS = 1000, 2


class Cleaner:
    """Works through the ledger's list of replaced items, as many in one request as fit.

    The database answers requests in their order. An item's rows go when the last of its records are deleted.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._row: ItemRow | None = None
        self._slices: Iterator[list[str]] = iter(())
        self._after = 0
        #: The requests that are not answered yet, and the items of which each deletes the last records.
        self._under_way: dict[int, list[ItemRow]] = {}
        self._numbers = count(1)
        self._sweeper = Sweeper(ledger, self._numbers)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to delete."""
        named = self._row is None and not self._under_way and self._ledger.leftovers.next_replaced() is None
        return named and self._sweeper.idle

    def requests(self) -> Iterator[m.Delete | m.Sweep]:
        """The next requests to send. What they rest on must be durable by then: commit the ledger first."""
        yield from self._deletes()
        yield from self._sweeper.requests()

    def _deletes(self) -> Iterator[m.Delete]:
        while len(self._under_way) < REQUESTS:
            ids: list[str] = []
            ended: list[ItemRow] = []
            while max(len(ids), len(ended)) < SLICE_IDS and (row := self._next_item()) is not None:
                part = next(self._slices, None)
                if part is None:
                    ended.append(row)
                    self._row = None
                else:
                    ids += part
            if not ids:
                self._end(ended)
                return
            number = next(self._numbers)
            self._under_way[number] = ended
            yield m.Delete(number, ids)

    def deleted(self, request: int) -> None:
        """The database has deleted that request's ids."""
        for row in self._under_way.pop(request, []):
            self._ledger.leftovers.drop_older(row)
        self._sweeper.deleted(request)

    def found(self, answer: m.Found) -> None:
        """The database holds these records of the item that is swept."""
        self._sweeper.found(answer)

    def reset(self) -> None:
        """The requests that are under way are lost: ask for them again."""
        self._row, self._slices, self._after = None, iter(()), 0
        self._under_way.clear()
        self._sweeper.reset()

    def _next_item(self) -> ItemRow | None:
        """The item at hand, or the next one that waits."""
        if self._row is None:
            self._row = self._ledger.leftovers.next_replaced(self._after)
            if self._row is None:
                return None
            self._after = self._row.id
            self._slices = self._ledger.leftovers.stale_ids(self._row.id, self._row.revision, SLICE_IDS)
        return self._row

    def _end(self, rows: list[ItemRow]) -> None:
        """Nothing of these items is left to ask for; their last ids may be under way still."""
        if self._under_way:
            self._under_way[max(self._under_way)].extend(rows)
            return
        for row in rows:
            self._ledger.leftovers.drop_older(row)
        if self._row is None:
            self._after = 0
