"""What children report of their work, booked where it belongs."""

from __future__ import annotations

import logging

from engine.runtime.parts import Parts
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.router import Router

log = logging.getLogger("engine")


class Bookkeeping:
    """The handlers of all messages that only change what is known."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, router: Router[[Child]]) -> None:
        """Have the router bring what this takes."""
        router.on(m.Received, self._received)
        router.on(m.Embedded, self._embedded)
        router.on(m.SegmentWritten, self._written)
        router.on(m.Deleted, self._deleted)
        router.on(m.Found, self._found)
        router.on(m.Loaded, self._loaded)
        router.on(m.Calibrating, self._calibrating)
        router.on(m.Calibrated, self._calibrated)
        router.on(m.FirstBatch, self._first_batch)
        router.on(m.DatabaseState, self._database_state)
        router.on(m.Note, self._note)

    def _received(self, message: m.Received, child: Child) -> None:
        if self._parts.accounts.lane_of(message.attempt) == child.name:
            self._parts.credits.emitted(child.name, message.channel, message.size)
            self._parts.accounts.received(message)

    def _embedded(self, message: m.Embedded, child: Child) -> None:
        """A segment has its vectors, and counts whatever has become of its attempt.

        This may be heard after the database's answer, when the item has its end or is in another lane. Of a
        lane that is lost nothing is heard.
        """
        self._parts.accounts.embedded(message)

    def _written(self, message: m.SegmentWritten, child: Child) -> None:
        """The database has answered for a segment; for one of an older attempt it no longer matters."""
        name = self._parts.accounts.lane_of(message.attempt)
        if name is None:
            log.debug("segment %d of attempt %d is left out", message.ordinal, message.attempt)
            return
        self._parts.speed.wrote()
        self._parts.credits.acknowledged(name, message.size)
        for lane in self._parts.pipeline.lanes:
            lane.answered += lane.name == name
        self._parts.accounts.written(message)

    def _deleted(self, message: m.Deleted, child: Child) -> None:
        self._parts.accounts.counts.deleted += message.records
        self._parts.cleaner.deleted(message.request)
        self._parts.ledger.commit()
        self._parts.clean()

    def _found(self, message: m.Found, child: Child) -> None:
        self._parts.cleaner.found(message)
        self._parts.ledger.commit()
        self._parts.clean()

    def _loaded(self, message: m.Loaded, child: Child) -> None:
        self._parts.speed.loaded(child.name, message.kind, message.device)
        self._parts.budget.loaded(child.name, message.growth)

    def _calibrating(self, message: m.Calibrating, child: Child) -> None:
        self._parts.speed.calibrating.add(child.name)

    def _calibrated(self, message: m.Calibrated, child: Child) -> None:
        self._parts.speed.calibrated(child.name, message.kind, message.rate, message.seconds)

    def _first_batch(self, message: m.FirstBatch, child: Child) -> None:
        if self._parts.speed.first_batch(message.at):
            self._parts.pipeline.mark()

    def _database_state(self, message: m.DatabaseState, child: Child) -> None:
        self._parts.database.note(message.trouble, message.disk_full)

    def _note(self, message: m.Note, child: Child) -> None:
        log.info("%s", message.text)
        if not (message.detail and self._parts.config.run.quiet):
            self._parts.say(message.text)
