"""How an item ends: what becomes of it, of its records of before, and of what may be there unbooked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import IO

from engine.errors import EngineError, HandOverError
from engine.records import Kind
from engine.runtime.ledger.counts import Counts
from engine.runtime.ledger.items import WHOLE_ITEM, FailureRow, ItemRow, StoredState
from engine.runtime.ledger.leftovers import Doubt
from engine.runtime.ledger.states import ItemEvent, ItemState, next_item_state
from engine.runtime.ledger.store import Ledger
from engine.sources import item_now
from engine.sources.base import Item
from engine.stages.parse import FileEnd

#: Dispatches of an item that changes each time while it is read, before it has failed.
CHANGED_ATTEMPTS = 3

#: Skip rules that depend on the command's options, so that another run has to look again.
OPTIONAL_RULES = ("no-images",)


@dataclass(eq=False)
class Work:
    """An item from its dispatch to its end.

    `row` is what the ledger knows of it, `revision` the one whose records are made. `doubt` says which
    attempts have not come to their end, so that the database may hold records that the ledger lacks (None:
    there is none). `lane` is the one that has, or may have, something of it.
    """

    item: Item
    row: ItemRow
    revision: int
    doubt: Doubt | None
    state: ItemState = ItemState.WAITING
    lane: str | None = None
    attempts: list[int] = field(default_factory=list)
    #: Of the newest attempt: the segments and chunks that arrived, what failed of it, and how it was parsed.
    arrived: int = 0
    arrived_chunks: int = 0
    failures: int = 0
    end: FileEnd | None = None
    #: How often a parser died of it.
    crashes: int = 0

    @property
    def begun(self) -> bool:
        """Whether the ledger has begun the revision; a changed item may still prove to be unchanged."""
        return self.row.revision == self.revision

    def follow(self, event: ItemEvent, target: ItemState | None = None) -> None:
        """Go on to the target, or stay. Raises `IllegalTransitionError`."""
        self.state = next_item_state(self.item.uri, self.state, event, target or self.state)

    def doubt_at_least(self, least: Doubt) -> None:
        """A process that handled the item has died."""
        self.doubt = least if self.doubt is None else max(self.doubt, least)


class Settling:
    """Ends items and books it. `generation` gives, for a kind of record, all that shapes them besides the
    item's content, chunks and model, as one word; None for a kind that this run leaves out."""

    def __init__(
        self,
        ledger: Ledger,
        generation: Callable[[str], str | None],
        counts: Counts,
        skipped_log: IO[str],
    ) -> None:
        self._ledger = ledger
        self._generation = generation
        self._counts = counts
        self._skipped_log = skipped_log
        self._changes: dict[str, int] = {}

    def begin(self, work: Work) -> None:
        """Begin the item's revision in the ledger, where that was not done yet."""
        if not work.begun:
            items = self._ledger.items
            items.start_revision(work.row.id, work.item)
            items.start_attempt(work.row.id)
            work.row = items.get(work.row.id)

    def describe(self, work: Work, kind: Kind, media_type: str, content_hash: str) -> None:
        """Book what the item is."""
        generation = self._generation(kind) or ""
        self._ledger.items.describe(work.row.id, kind, media_type, generation, content_hash)
        work.row = replace(
            work.row, kind=kind, media_type=media_type, generation=generation, content_hash=content_hash
        )

    def skip(self, uri: str, rule: str, detail: str = "") -> None:
        """Count what a rule leaves out and write it down."""
        self._counts.skip(uri, rule)
        # A name that is not UTF-8 may be quoted in the detail.
        detail = detail.encode("utf-8", "backslashreplace").decode()
        line = {"source": uri, "rule": rule} | ({"detail": detail} if detail else {})
        self._skipped_log.write(json.dumps(line, ensure_ascii=False) + "\n")

    def settle(self, work: Work) -> Item | None:
        """The item has come to its end; what is to be tried once more, as it is now, where it changed.

        Raises `HandOverError` where what its parser handed over is not what arrived.
        """
        end = work.end
        if end is None:
            raise EngineError(f"{work.item.uri}: settled before it was parsed")
        if (end.segments, end.chunks) != (work.arrived, work.arrived_chunks):
            raise HandOverError(
                "from the parser to the inference process",
                f"{end.chunks} chunks in {end.segments} segments left, {work.arrived_chunks} in"
                f" {work.arrived} arrived ({work.item.uri})",
            )
        state, again = self._settled(work, end)
        work.follow(ItemEvent.SETTLED, state)
        return again

    def _settled(self, work: Work, end: FileEnd) -> tuple[ItemState, Item | None]:
        row, items = work.row, self._ledger.items
        if end.outcome == "unchanged":
            items.touch(row.id, work.item)
            self._counts.ended("unchanged")
            self._close(work, replaced=True)
            return ItemState.UNCHANGED, None
        if end.rule in OPTIONAL_RULES and self._ledger.segments.has_records(row.id):
            # Left out by an option of this run, which says nothing of the records that are there.
            self.skip(row.uri, end.rule, end.message)
            self._close(work, replaced=False)
            return ItemState.SKIPPED, None
        self.begin(work)
        if end.kind is not None and end.outcome != "skipped":
            self.describe(work, end.kind, end.media_type, end.content_hash)
        if end.outcome == "changed" and (now := self._changed(work, end)) is not None:
            self._close(work, replaced=False)
            return ItemState.WAITING, now
        if end.outcome == "skipped" and not work.failures:
            self._ledger.leftovers.replace_all(row.id)
            items.finish(row.id, "skipped", end.rule)
            self.skip(row.uri, end.rule, end.message)
            self._close(work, replaced=True)
            return ItemState.SKIPPED, None
        if end.outcome in ("failed", "changed"):
            items.fail(FailureRow(row.id, WHOLE_ITEM, None, "parse", end.rule, end.message))
        return self._made(work, whole=end.outcome == "parsed" and not work.failures), None

    def _made(self, work: Work, whole: bool) -> ItemState:
        """Records were made of the item, or should have been: all of them where it is `whole`."""
        item, doubtful = work.row.id, work.doubt is Doubt.OTHER
        # Nothing depends on it for a first revision that came through.
        first = whole and not work.revision and not doubtful
        has_new = not first and self._ledger.segments.progress(item, work.revision).chunks > 0
        state: StoredState = "indexed" if whole else "partial" if has_new else "failed"
        self._ledger.items.finish(item, state)
        self._counts.ended(state)
        if has_new:
            self._ledger.leftovers.replace(item)
        if whole and not doubtful:
            # The same again as in every attempt, whatever became of those.
            self._ledger.leftovers.close_attempts(item)
        else:
            self._close(work, replaced=doubtful and has_new)
        return ItemState(state)

    def _close(self, work: Work, replaced: bool) -> None:
        """Book whether the database may hold records of the item that the ledger doesn't know.

        They are deleted where the item has been `replaced` by what the ledger does know; otherwise they stay,
        with the mark that they may be there, until an attempt comes to a better end.
        """
        if work.doubt is None:
            self._ledger.leftovers.close_attempts(work.row.id)
        elif replaced:
            self._ledger.leftovers.sweep(work.row.id)

    def _changed(self, work: Work, end: FileEnd) -> Item | None:
        """The item as it is now, where one that changed while it was read is tried once more."""
        uri = work.item.uri
        changes = self._changes.pop(uri, 0) + 1
        now = item_now(work.item)
        if now is None:
            end.rule, end.message = "unreadable", "it vanished while it was read"
        elif changes < CHANGED_ATTEMPTS:
            self._changes[uri] = changes
            return now
        else:
            end.rule, end.message = "changed-while-read", f"it changed during each of {changes} attempts"
        return None
