"""The database before the first file: opened, made to fit, rid of what an earlier run had left to delete; and
made to hold pictures once the first one is met."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable

import adapters
from engine.errors import UsageError
from engine.machine import batch_job as batch
from engine.models.spec import ImageSpec
from engine.records import index_url
from engine.runtime.parts import Parts
from engine.runtime.process import messages as m
from engine.runtime.process.background import Background
from engine.runtime.process.child import Child
from engine.runtime.router import Router


class Preflight:
    """The database first: a model is not loaded for one that is not there or doesn't fit.

    Each step is the answer to a message. A `repair` leaves the options in the ledger as they are.
    """

    def __init__(self, parts: Parts, repair: bool) -> None:
        self._parts = parts
        self._repair = repair
        #: The index fits.
        self.fits = False
        #: By what the index was known before it was looked at; see `adapters.left_as`.
        self._found_as: str | None = None
        #: What is done with the indexer's next answers to `Prepare`, in their order.
        self._on_prepared: deque[Callable[[m.Prepared, str | None], None]] = deque()
        self._image_search: Background[ImageSpec | None] | None = None

    def register(self, router: Router[[Child]]) -> None:
        """Have the router bring what this takes."""
        router.on(m.Opened, self._opened)
        router.on(m.Prepared, self._prepared)
        router.on(m.NeedImageModel, self._need_image_model)

    @property
    def done(self) -> bool:
        """Whether files may be parsed.

        What an earlier run had left to delete goes first: a file may have turned back to what it was, and
        would write the very ids that are still to be deleted.
        """
        return self.fits and self._parts.cleaner.idle

    def is_needless(self) -> bool:
        """Whether the run can end before any process is started: index and options are as an earlier run left
        them that came to its end, and so is all that the inputs hold."""
        parts = self._parts
        config, ledger = parts.config, parts.ledger
        self._found_as = None if self._repair else adapters.left_as(config.database.adapter)
        return (
            self._found_as is not None
            and self._found_as == ledger.get("left_as")
            and json.dumps(config.as_dict()) == ledger.get("config")
            and not (config.database.full or config.task.fleet or ledger.get("unpublished"))
            and parts.intake.nothing_to_do()
            and parts.cleaner.idle
            # Others may have written to it since the first look.
            and self._found_as == adapters.left_as(config.database.adapter)
        )

    def left_as(self) -> str:
        """By what a later run knows the index again; nothing where others may have written to it meanwhile,
        because this run wrote nothing and it isn't as it was found."""
        counts, now = self._parts.accounts.counts, adapters.left_as(self._parts.config.database.adapter)
        return now or "" if counts.records or counts.deleted or now == self._found_as else ""

    def begin(self) -> None:
        """Start the indexer, which opens the database.

        Raises `UsageError` where the run directory is another database's.
        """
        config, ledger = self._parts.config, self._parts.ledger
        known, index = ledger.get("adapter"), index_url(config.database.adapter)
        if known not in (None, index):
            raise UsageError(
                f"--run-dir {config.run_dir}: its ledger is of {known}, not of {index};"
                " name another --run-dir"
            )
        self.fits = False
        self._found_as = adapters.left_as(config.database.adapter)
        self._on_prepared.clear()
        # A job has waited for its place, and shall not lose it to a database that is away for a while.
        patient = known is not None or config.task.fleet or batch.name(os.environ) is not None
        self._parts.pipeline.start_indexer(patient, identity=ledger.get("identity"))

    def _opened(self, opened: m.Opened, child: Child) -> None:
        parts = self._parts
        renew = parts.generation.check(parts.ledger, opened)
        if parts.begun:
            # Once more after a death: what this run has begun goes on.
            renew = "misfit" if opened.resumed else "never"
        parts.accounts.shared = opened.count > 0 and opened.state != parts.ledger.get("state")
        self._prepare(renew, self._fit)

    def _prepare(self, renew: m.Renew, then: Callable[[m.Prepared, str | None], None]) -> None:
        """Make the index, or check that it fits and add to it what it lacks; or begin it anew.

        `then` gets the answer, and the identity of the index that the ledger's records are in.
        """
        self._on_prepared.append(then)
        self._parts.pipeline.tell_indexer(m.Prepare(self._parts.generation.schema(), renew))

    def _prepared(self, prepared: m.Prepared, child: Child) -> None:
        ledger = self._parts.ledger
        filled = ledger.get("identity") if ledger.segments.has_records() else None
        if prepared.identity is not None:
            ledger.set("identity", prepared.identity)
        for kind, name in self._parts.generation.known().items():
            ledger.adopt_plan(kind, name)
        self._on_prepared.popleft()(prepared, filled)

    def _fit(self, prepared: m.Prepared, filled: str | None) -> None:
        """The index fits, and is this run's from now on."""
        parts = self._parts
        config, ledger = parts.config, parts.ledger
        if prepared.new or filled not in (None, prepared.identity):
            # What the old one holds stays as it is, whole: nothing is deleted from it file by file.
            ledger.begin_again()
        if prepared.new:
            parts.say("loading a new generation of the index; search goes on in the old one")
            # In one commit with the new identity and the ledger's new beginning.
            parts.will_change_index()
        parts.budget.open()
        index, before = index_url(config.database.adapter), json.loads(ledger.get("config") or "{}")
        if config.database.adapter not in (index, before.get("adapter")):
            # Its options are asked for now, so they are put into effect also where there is nothing to write.
            parts.will_change_index()
        ledger.set("adapter", index)
        if not self._repair:
            ledger.set("config", json.dumps(config.as_dict()))
        ledger.commit()
        self.fits = True

    # Pictures

    def _need_image_model(self, message: m.NeedImageModel, child: Child) -> None:
        if self._image_search is None:
            # A model may have to be fetched first, and nothing else shall wait for that.
            self._image_search = Background(self._parts.generation.image)

    def look_for_images(self) -> None:
        """Once the image model is found, the index is made to hold its vectors; then the parsers go on."""
        if self._image_search is None or not self._image_search.done:
            return
        search, self._image_search = self._image_search, None
        if (spec := search.result()) is None:
            self._parts.pipeline.use_images(None)
        else:
            self._prepare("never", lambda prepared, filled: self._use_images(spec))

    def _use_images(self, spec: ImageSpec) -> None:
        self._parts.ledger.commit()
        self._parts.pipeline.use_images(spec)
