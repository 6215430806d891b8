"""The indexer process: the index stage in front of the database, whose client only this process imports."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import TypeVar

import adapters
from adapters.base import Adapter, AdapterOptions
from adapters.schema import is_made_with
from engine.errors import (
    AccessError,
    DatabaseUnavailableError,
    DiskFullError,
    EngineError,
    SchemaMismatchError,
    UsageError,
)
from engine.machine.allocator import return_large_blocks
from engine.records import IndexSchema, Kind, Record
from engine.runtime.process import messages as m
from engine.runtime.process.child import Mailbox, run_child
from engine.stages.index import IndexStage
from engine.stages.segment import Segment

#: Seconds before the first try again of a database that doesn't answer, and the most between two tries.
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 15.0

#: Ids in one answer to `Sweep`.
SWEEP_IDS = 1000

#: Its work is acknowledged late, so it should outlive the parsers.
OOM_SCORE = 100

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class IndexerOptions:
    """`patient`: wait for a database that is down already at the start, as one that was there before.

    `identity` is that of the index which the run directory has filled so far.
    """

    url: str
    fields: tuple[tuple[str, str], ...]
    adapter: AdapterOptions
    patient: bool
    identity: str | None = None


def main(control: Connection, run_dir: str, options: IndexerOptions) -> None:
    """Entry of the process."""
    return_large_blocks()
    run_child(control, run_dir, lambda mailbox: _Indexer(mailbox, options).run(), OOM_SCORE)


class _Indexer:
    def __init__(self, mailbox: Mailbox, options: IndexerOptions) -> None:
        self._mailbox = mailbox
        self._options = options
        self._models: dict[Kind, str] = {}
        self._begun = False
        self._stopped = False
        #: Somebody waits: what is here already is still taken along, and then written.
        self._hurry = False
        #: The file whose records are being named, and those that were not yet.
        self._scan: tuple[str, Iterator[str]] | None = None
        #: Something was written, so that the run has more to lose than a start.
        self._wrote = False

    def run(self) -> None:
        """Open the database, then write what comes until the supervisor says stop."""
        adapter = self._open()
        bulk = self._options.adapter
        stage = IndexStage(
            _Timed(adapter, self._mailbox),
            self._models,
            dict(self._options.fields),
            bulk_bytes=bulk.bulk_bytes * bulk.bulk_concurrency,
            bulk_age_s=adapter.bulk_age_s,
        )
        self._mailbox.start_clock()
        try:
            while not self._stopped:
                self._handle(self._next(stage.due_in()), stage, adapter)
                if stage.due_in() == 0.0 or (self._hurry and self._mailbox.inbox.empty()):
                    self._hurry = False
                    self._flush(stage)
            self._flush(stage)
        finally:
            adapter.close()

    def _open(self) -> Adapter:
        """Raises `UsageError` where the database doesn't answer and nothing says that it ever did."""

        def open_once() -> tuple[Adapter, m.Opened]:
            adapter = adapters.connect(self._options.url, self._options.adapter)
            known = self._options.identity
            resumed = known is not None and adapter.resume(known)
            identity, state = adapter.identity(), adapter.state()
            return adapter, m.Opened(identity, state, adapter.schema(), adapter.count(), resumed)

        try:
            adapter, opened = self._retry_until_available(open_once) if self._options.patient else open_once()
        except DatabaseUnavailableError as error:
            raise UsageError(str(error)) from None
        self._mailbox.send(opened)
        return adapter

    def _next(self, timeout: float | None) -> object:
        if not self._mailbox.inbox.empty():
            return self._mailbox.inbox.get()
        with self._mailbox.waiting("in", "inference"):
            try:
                return self._mailbox.inbox.get(timeout=timeout)
            except queue.Empty:
                return None

    def _handle(self, message: object, stage: IndexStage, adapter: Adapter) -> None:
        if isinstance(message, Segment):
            self._begin(adapter)
            stage.add(message)
        elif isinstance(message, m.Prepare):
            schema, renew = message.schema, message.renew
            new = self._retry_until_available(lambda: _fit(adapter, schema, renew))
            if schema.text_model:
                self._models["text"] = schema.text_model.name
            if schema.image_model:
                self._models["image"] = schema.image_model.name
            self._mailbox.send(m.Prepared(self._retry_until_available(adapter.identity), new))
        elif isinstance(message, m.Delete):
            ids = message.ids
            self._begin(adapter)
            timed = _Timed(adapter, self._mailbox)
            self._mailbox.send(
                m.Deleted(message.request, self._retry_until_available(lambda: timed.delete(ids)))
            )
        elif isinstance(message, m.Sweep):
            self._mailbox.send(self._found(message, adapter))
        elif isinstance(message, m.Flush):
            self._hurry = True
        elif isinstance(message, m.Publish):
            self._flush(stage)
            expected = message.expected
            with self._mailbox.calling("publish"):
                self._retry_until_available(lambda: adapter.publish(expected))
            self._mailbox.send(m.Published(self._retry_until_available(adapter.state)))
        elif isinstance(message, m.ChannelClosed):
            # The supervisor takes what has no answer by now for lost.
            self._flush(stage)
            self._mailbox.send(message)
        elif isinstance(message, m.Stop):
            self._stopped = True

    def _found(self, message: m.Sweep, adapter: Adapter) -> m.Found:
        """The next slice of a file's ids; the scan stays open in between, so that memory stays flat."""

        def next_ids() -> list[str]:
            if self._scan is None or self._scan[0] != message.source:
                self._scan = message.source, ids_made_with(adapter, message.source, message.chunkers)
            try:
                return list(islice(self._scan[1], SWEEP_IDS))
            except BaseException:
                # It gives nothing more. From the start again: ids that come twice do no harm.
                self._scan = None
                raise

        ids = self._retry_until_available(next_ids)
        last = len(ids) < SWEEP_IDS
        if last:
            self._scan = None
        return m.Found(message.request, ids, last)

    def _begin(self, adapter: Adapter) -> None:
        """Before the first change of this run, so that a run that changes nothing leaves all as it is."""
        if not self._begun:
            self._retry_until_available(adapter.prepare)
            self._begun = True

    def _flush(self, stage: IndexStage) -> None:
        written: list[object] = []
        for result in self._retry_until_available(stage.flush):
            self._wrote = True
            segment = result.segment
            done = [each for i, each in enumerate(segment.ids) if i not in result.refused]
            written.append(
                m.SegmentWritten(
                    attempt=segment.attempt,
                    ordinal=segment.ordinal,
                    after=segment.after,
                    checkpoint=segment.checkpoint,
                    kind=segment.kind,
                    page=segment.page,
                    size=segment.size,
                    ids=bytes.fromhex("".join(done)),
                    refused=result.refused,
                    refused_by="infer" if segment.refused else "index",
                    document=segment.document,
                )
            )
        self._mailbox.send_all(written)

    def _retry_until_available(self, call: Callable[[], _Result]) -> _Result:
        """Call until the database answers; how long that may take is for the supervisor to decide.

        Once something was written, credentials that are refused are waited for as well: a key may be renewed,
        and the run stays resumable where none is. What else a user must mend then ends the run as failed,
        with its summary, and not as one that was started wrongly.
        """
        pause = FIRST_RETRY_S
        troubled = False
        while True:
            try:
                result = call()
            except (DatabaseUnavailableError, AccessError) as error:
                if isinstance(error, AccessError) and not self._wrote:
                    raise
                troubled = True
                self._mailbox.send(m.DatabaseState(str(error), isinstance(error, DiskFullError)))
                with self._mailbox.waiting("out", "database"):
                    time.sleep(random.uniform(0, pause))
                pause = min(2 * pause, LONGEST_RETRY_S)
            except SchemaMismatchError:
                raise
            except UsageError as error:
                raise EngineError(str(error)) if self._wrote else error from None
            else:
                if troubled:
                    self._mailbox.send(m.DatabaseState(None))
                self._mailbox.step()
                return result


class _Timed:
    """An adapter whose changes are counted as time in the database."""

    def __init__(self, adapter: Adapter, mailbox: Mailbox) -> None:
        self._adapter = adapter
        self._mailbox = mailbox

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        with self._mailbox.calling("database"):
            return self._adapter.write(records, maybe_present)

    def delete(self, ids: Sequence[str]) -> int:
        with self._mailbox.calling("database"):
            return self._adapter.delete(ids)


def ids_made_with(adapter: Adapter, source: str, chunkers: tuple[str, ...]) -> Iterator[str]:
    """The ids of a file's records that any of these chunkers made."""
    schema = adapter.schema()
    if schema is not None:
        for row in adapter.scan(source=source):
            if is_made_with(row, schema, chunkers):
                yield str(row["id"])


def _fit(adapter: Adapter, schema: IndexSchema, renew: m.Renew) -> bool:
    """Make the index fit; whether it is a new generation for that."""
    if renew == "always" and adapter.begin_generation(schema):
        return True
    try:
        adapter.ensure_schema(schema)
    except SchemaMismatchError:
        if renew == "misfit" and adapter.begin_generation(schema):
            return True
        raise
    return False
