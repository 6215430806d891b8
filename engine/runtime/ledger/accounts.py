"""The accounts: what becomes of every item, from its listing to the ledger's last word. No processes here.

An item is on its way from its dispatch until its parse call has ended and each of its segments is answered by
the database. Only then does it get its end; what the run counts and what the ledger holds change in one
place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import IO

from engine.records import SectionFailure
from engine.runtime.ledger.counts import Counts
from engine.runtime.ledger.embedded import EmbeddedBytes
from engine.runtime.ledger.in_flight import InFlight
from engine.runtime.ledger.items import WHOLE_ITEM, FailureRow, ItemRow, StoredState
from engine.runtime.ledger.leftovers import Doubt
from engine.runtime.ledger.segments import ID_BYTES, Acknowledged, Progress
from engine.runtime.ledger.settling import OPTIONAL_RULES, Settling, Work
from engine.runtime.ledger.states import ItemEvent, ItemState, next_item_state
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m
from engine.sources.base import Found, Item, LeftOut
from engine.stages.parse import FileEnd, FileJob


class Accounts:
    """Decides what is done with each item, and books what came of it.

    `generation` gives all that shapes the records of a kind besides the item's content, chunks and model, as
    one word; None for a kind that this run leaves out. `run` is this invocation's number in the ledger. An
    item that has crashed its parser `file_attempts` times is tried once more alone.
    """

    def __init__(
        self,
        ledger: Ledger,
        run: int,
        generation: Callable[[str], str | None],
        skipped_log: IO[str],
        skip_failed: bool = False,
        file_attempts: int = 2,
        in_flight: InFlight | None = None,
    ) -> None:
        self._ledger = ledger
        self._run = run
        self._generation = generation
        self._skipped_log = skipped_log
        self._skip_failed = skip_failed
        self._file_attempts = file_attempts
        self._attempts: dict[int, Work] = {}
        self._next_attempt = 1
        self._acknowledged: list[Acknowledged] = []
        self.counts = Counts()
        self._settling = Settling(ledger, generation, self.counts, skipped_log)
        #: Segments between their arrival at an inference process and the database's answer.
        self.in_flight = in_flight or InFlight()
        #: The index holds records that the ledger doesn't know: any record may be there already.
        self.shared = False
        #: The rows of waiting items that were never met before, by URI.
        self._new: dict[str, ItemRow] = {}
        #: Items on their way.
        self.active = 0
        #: What is embedded of items on their way; and the last item of which the database got something, with
        #: the page.
        self.embedded_bytes = EmbeddedBytes()
        self.latest: tuple[str, int | None] = ("", None)
        #: Items that changed while they were read, to be dispatched once more.
        self.again: deque[Item] = deque()

    # Listing

    def admit(self, found: Found) -> Item | None:
        """Book what a source listed; the item itself where there is work to do on it."""
        state = self._admitted(found)
        if state is None:
            return None
        next_item_state(found.uri, ItemState.FOUND, ItemEvent.ADMITTED, state)
        self.counts.discovered += 1
        if isinstance(found, Item):
            self.counts.bytes_found += found.size
            self.counts.bytes_done += found.size if state is not ItemState.WAITING else 0
        return found if isinstance(found, Item) and state is ItemState.WAITING else None

    def _admitted(self, found: Found) -> ItemState | None:
        """What becomes of it; None where it was listed before in this run."""
        items = self._ledger.items
        if isinstance(found, LeftOut):
            self._settling.skip(found.uri, found.rule, found.detail)
            return ItemState.SKIPPED
        row = items.find(found.uri)
        if not isinstance(found, Item):
            if row is not None and row.seen == self._run:
                return None
            row = row or items.add(Item(found.uri, 0, "", 0, found.uri), self._run)
            items.mark_seen(row.id, self._run)
            items.fail(FailureRow(row.id, WHOLE_ITEM, None, "discover", "unreadable", found.message))
            items.finish(row.id, "failed")
            self.counts.ended("failed")
            return ItemState.FAILED
        if row is None:
            self._new[found.uri] = items.add(found, self._run)
            return ItemState.WAITING
        if row.seen == self._run:
            if row.location == found.location:
                return None
            # Bytes that are not UTF-8 are escaped, so two names can come out as one.
            self._settling.skip(found.uri, "name-collision", f"the same source as {row.location!r}")
            return ItemState.SKIPPED
        items.mark_seen(row.id, self._run)
        return self._known(row, found)

    def has_work(self, found: Found) -> bool:
        """Whether there would be work to do on it, or a failure to book. Books nothing."""
        if not isinstance(found, Item):
            return not isinstance(found, LeftOut)
        row = self._ledger.items.find(found.uri)
        return row is None or self._stays(row, found) is None

    def _stays(self, row: ItemRow, found: Item) -> StoredState | None:
        """The state in which an item stays that an earlier run had; None where there is work to do on it."""
        if not self._is_current(row, found):
            return None
        left_out = row.rule not in OPTIONAL_RULES or self._generation("image") is None
        stays = row.state == "indexed" or (row.state == "skipped" and left_out)
        return row.state if stays or (row.state in ("failed", "partial") and self._skip_failed) else None

    def _known(self, row: ItemRow, found: Item) -> ItemState:
        """What becomes of an item that an earlier run had."""
        if row.version != found.version and self._is_current(row, found):
            # An older engine knew less of it.
            self._ledger.items.touch(row.id, found)
        state = self._stays(row, found)
        if state is None:
            return ItemState.WAITING
        if state in ("failed", "partial"):
            self.counts.ended(state)
            return ItemState(state)
        # It may have had other content for a while, in a run that was killed.
        self._ledger.leftovers.sweep(row.id, Doubt.OTHER)
        if row.state == "skipped":
            self._settling.skip(row.uri, row.rule or "")
            return ItemState.SKIPPED
        self.counts.ended("unchanged")
        return ItemState.UNCHANGED

    def _is_current(self, row: ItemRow, found: Item) -> bool:
        """Whether the newest revision in the ledger is of this very content, chunker and model."""
        if not found.same_content(row.size, row.version):
            return False
        return row.kind is None or self._generation(row.kind) in (None, row.generation)

    # Dispatch

    def dispatch(self, found: Item) -> FileJob | None:
        """A job for the item. Commit the ledger before it is sent. None: it was settled without one."""
        items, row = self._ledger.items, self._new.pop(found.uri, None)
        new = row is not None
        row = row or items.find(found.uri)
        if row is None:
            raise KeyError(found.uri)
        current = self._is_current(row, found)
        if current:
            if not new:
                items.clear_failures(row.id)
            items.start_attempt(row.id)
        doubt = self._ledger.leftovers.open_attempt(row.id, known=current)
        # A changed item's revision begins with its first acknowledgement: it may prove to be unchanged.
        work = Work(found, row, row.revision + (not current), doubt)
        self.active += 1
        if found.size == 0:
            work.end = FileEnd("skipped", rule="empty")
            self._settle(work)
            return None
        work.follow(ItemEvent.DISPATCHED, ItemState.PARSING)
        return self._job(work)

    def _job(self, work: Work) -> FileJob:
        """The next attempt at the item: on from what is acknowledged, without what is in flight."""
        attempt, self._next_attempt = self._next_attempt, self._next_attempt + 1
        self._attempts[attempt] = work
        work.attempts.append(attempt)
        work.end, work.arrived, work.arrived_chunks = None, 0, 0
        self.embedded_bytes.forget(work)
        self.flush()
        row = work.row
        if work.failures:
            # What failed is not done, so that it is made again, and fails again where it must.
            work.failures = 0
            self._ledger.items.clear_failures(row.id)
        unknown = row.kind is None and not (row.attempts or work.revision or attempt != work.attempts[0])
        progress = Progress() if unknown else self._ledger.segments.progress(row.id, work.revision)
        same_plan = row.kind is not None and self._generation(row.kind) == row.generation
        touched = not work.begun and row.state == "indexed" and same_plan
        return FileJob(
            attempt=attempt,
            item=work.item,
            known_hash=row.content_hash if touched else None,
            checkpoint=progress.checkpoint,
            last=progress.last,
            done=frozenset(progress.done) | self.in_flight.unanswered(work.attempts),
            maybe_present=self.shared or work.doubt is not None or row.attempts + work.revision > 0,
            alone=work.crashes >= self._file_attempts,
        )

    def place(self, attempt: int, lane: str) -> None:
        """The attempt's parser is one of this lane."""
        self._attempts[attempt].lane = lane

    def lane_of(self, attempt: int) -> str | None:
        """The lane that has the attempt's segments; None for an attempt of which nothing is on its way."""
        work = self._attempts.get(attempt)
        return None if work is None else work.lane

    # What the processes report

    def received(self, message: m.Received) -> None:
        """A segment has arrived at the inference process."""
        work = self._attempts[message.attempt]
        work.follow(ItemEvent.SEGMENT_ARRIVED)
        work.arrived += 1
        work.arrived_chunks += message.chunks
        uri, lane = work.item.uri, work.lane or ""
        self.in_flight.arrived(uri, lane, message.attempt, message.ordinal, message.size, message.chunks)
        self._settle_if_done(work)

    def embedded(self, message: m.Embedded) -> None:
        """A segment has its vectors."""
        self.in_flight.embedded(message.attempt, message.ordinal)
        if (work := self._attempts.get(message.attempt)) is not None:
            self.embedded_bytes.add(work, message.vectors)
        if message.kind == "text":
            self.counts.text_chunks += message.vectors
        else:
            self.counts.image_chunks += message.vectors
        self.counts.deduplicated += message.repeated
        self.counts.tokens += message.tokens
        self.counts.padding += message.padding
        self.counts.spared_tokens += message.spared
        if message.kind == "image":
            self.counts.spared_pictures += message.repeated

    def written(self, message: m.SegmentWritten) -> None:
        """The database has answered for a segment."""
        work = self._attempts[message.attempt]
        work.follow(ItemEvent.SEGMENT_ANSWERED)
        chunks = len(message.ids) // ID_BYTES + len(message.refused)
        uri, lane = work.item.uri, work.lane or ""
        self.in_flight.answered(uri, lane, message.attempt, message.ordinal, message.size, chunks)
        self._settling.begin(work)
        self.counts.records += len(message.ids) // ID_BYTES
        self.latest = uri, message.page
        if message.refused:
            work.failures += 1
            position, reason = next(iter(message.refused.items()))
            text = f"{len(message.refused)} of {chunks} records, the first at position {position}: {reason}"
            where = (work.row.id, message.ordinal, message.page, message.refused_by)
            self._ledger.items.fail(FailureRow(*where, "refused", text, message.document))
        self._acknowledged.append(
            Acknowledged(
                item=work.row.id,
                revision=work.revision,
                ordinal=message.ordinal,
                after=message.after,
                page=message.page,
                checkpoint=message.checkpoint,
                ids=message.ids,
                complete=not message.refused,
            )
        )
        end = work.end
        # Where the item comes to its end with this, it is described for good in a moment.
        last = self._is_done(work) and end is not None and end.kind is not None and end.outcome != "skipped"
        if not last and (work.row.kind is None or not work.row.generation):
            self._settling.describe(work, message.kind, "", "")
        self._settle_if_done(work)

    def section_failed(self, attempt: int, failure: SectionFailure, ordinal: int) -> None:
        """A page can't be parsed."""
        work = self._attempts[attempt]
        work.follow(ItemEvent.SECTION_FAILED)
        self._settling.begin(work)
        work.failures += 1
        self._ledger.items.fail(FailureRow.of_section(work.row.id, ordinal, failure))

    def parsed(self, attempt: int, end: FileEnd) -> None:
        """The parse call of an attempt has ended."""
        work = self._attempts[attempt]
        work.follow(ItemEvent.PARSE_ENDED, ItemState.PARSED)
        work.end = end
        self.counts.bytes_read += end.bytes_read
        self.counts.replaced_characters += end.replaced
        self.counts.truncated_images += end.truncated
        self._settle_if_done(work)

    # What is lost with a process

    def lost(self, attempt: int, begun: bool, crashed: str | None = None) -> FileJob | None:
        """The attempt's parser died and nothing more of it will come. A new job, unless the item is poison.

        `begun`: it had begun with the item. `crashed` says how it died, where the item is to blame.
        """
        work = self._attempts[attempt]
        if begun:
            work.doubt_at_least(Doubt.SAME)
        work.crashes += crashed is not None
        if crashed is not None and work.crashes > self._file_attempts:
            work.follow(ItemEvent.POISONED, ItemState.PARSED)
            message = f"{crashed}; {work.crashes} times, the last time with no other file at work"
            work.arrived = work.arrived_chunks = 0
            work.end = FileEnd("failed", rule="poison", message=message)
            self._settle_if_done(work)
            return None
        work.follow(ItemEvent.LOST, ItemState.PARSING)
        if not self.in_flight.unanswered(work.attempts):
            work.lane = None  # nothing of it is left there, so that any other may have it
        return self._job(work)

    def lost_all(self) -> list[FileJob]:
        """Every process died: all that is not answered is lost. New jobs for the items on their way."""
        jobs = [self._from_the_answered(work, True) for work in dict.fromkeys(self._attempts.values())]
        self.in_flight.lose()
        return jobs

    def lost_lane(self, lane: str, waiting: Collection[int]) -> list[FileJob]:
        """A lane's processes died, and the database has answered all that it ever will: the rest is lost. New
        jobs for the items that were there; of the attempts that were still `waiting` none had begun."""
        lost = [each for each in dict.fromkeys(self._attempts.values()) if each.lane == lane]
        jobs = [self._from_the_answered(each, each.attempts[-1] not in waiting) for each in lost]
        self.in_flight.lose(lane)
        return jobs

    def _from_the_answered(self, work: Work, begun: bool) -> FileJob:
        """A new job that makes again all but what the database has answered."""
        work.follow(ItemEvent.LOST, ItemState.PARSING)
        for attempt in work.attempts:
            del self._attempts[attempt]  # nothing more of it counts
        work.attempts.clear()
        if begun:
            work.doubt_at_least(Doubt.SAME)
        work.lane = None
        return self._job(work)

    # The end

    def _is_done(self, work: Work) -> bool:
        """Whether parsing has ended and every segment is answered."""
        end = work.end
        return end is not None and work.arrived >= end.segments and not self.in_flight.is_open(work.attempts)

    def _settle_if_done(self, work: Work) -> None:
        if self._is_done(work):
            self._settle(work)

    def _settle(self, work: Work) -> None:
        self.flush()
        again = self._settling.settle(work)
        self.embedded_bytes.forget(work)
        self.counts.bytes_done += work.item.size if again is None else 0
        for attempt in work.attempts:
            del self._attempts[attempt]
        self.active -= 1
        if again is not None:
            self.again.append(again)

    # The ledger

    def flush(self) -> None:
        """Book the acknowledgements that came in; `Ledger.commit` makes them durable."""
        self._ledger.segments.acknowledge(self._acknowledged)
        self._acknowledged.clear()

    def close(self) -> None:
        """Book what is left, and have everything that was skipped in its file. Raises `OSError`."""
        self.flush()
        self._skipped_log.flush()

    def count_gone(self, under: tuple[str, ...]) -> None:
        """Count the items below these URIs that no listing met, and whose records stay."""
        self.counts.gone = self._ledger.items.unseen_with_records(self._run, under)

    def prune(self, under: tuple[str, ...]) -> Iterator[None]:
        """Mark the items below these URIs that no listing met; one a step."""
        after = 0
        while row := self._ledger.items.unseen(self._run, after):
            after = row.id
            if row.state != "removed" and row.uri.startswith(under):
                self.counts.ended("removed")
                self._ledger.leftovers.remove(row.id)
            yield
