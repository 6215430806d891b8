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
    IndexLostError,
    SchemaMismatchError,
    UsageError,
)
from engine.machine.allocator import return_large_blocks
from engine.records import IndexSchema, Kind, Record
from engine.runtime.process import messages as m
from engine.runtime.process.mailbox import Mailbox, run_child
from engine.runtime.router import Router
from engine.stages.index import IndexStage
from engine.stages.segment import EmbeddedPicture, EmbeddedSegment, EmbeddedText

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

    def body(mailbox: Mailbox) -> None:
        retry = _Retry(mailbox)
        adapter = _open(mailbox, retry, options)
        try:
            _Indexer(mailbox, retry, adapter, options).run()
        finally:
            adapter.close()

    run_child(control, run_dir, body, OOM_SCORE)


def _open(mailbox: Mailbox, retry: _Retry, options: IndexerOptions) -> Adapter:
    """Raises `UsageError` where the database doesn't answer and nothing says that it ever did."""

    def open_once() -> tuple[Adapter, m.Opened]:
        adapter = adapters.connect(options.url, options.adapter)
        adapter.check_writer()
        known = options.identity
        resumed = known is not None and adapter.resume(known)
        identity, state = adapter.identity(), adapter.state()
        return adapter, m.Opened(identity, state, adapter.schema(), adapter.count(), resumed)

    try:
        adapter, opened = retry(open_once) if options.patient else open_once()
    except DatabaseUnavailableError as error:
        raise UsageError(str(error)) from None
    mailbox.send(opened)
    return adapter


class _Retry:
    """Tries again what a database doesn't answer. `wrote`: something was written, so that the run has more to
    lose than a start."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.wrote = False

    def __call__(self, call: Callable[[], _Result]) -> _Result:
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
                if isinstance(error, AccessError) and not self.wrote:
                    raise
                troubled = True
                self._mailbox.send(m.DatabaseState(str(error), isinstance(error, DiskFullError)))
                with self._mailbox.waiting("out", "database"):
                    time.sleep(random.uniform(0, pause))
                pause = min(2 * pause, LONGEST_RETRY_S)
            except (SchemaMismatchError, IndexLostError):
                raise
            except UsageError as error:
                raise EngineError(str(error)) if self.wrote else error from None
            else:
                if troubled:
                    self._mailbox.send(m.DatabaseState(None))
                self._mailbox.step()
                return result


class _Indexer:
    def __init__(self, mailbox: Mailbox, retry: _Retry, adapter: Adapter, options: IndexerOptions) -> None:
        self._mailbox = mailbox
        self._retry = retry
        self._adapter = adapter
        self._timed = _Timed(adapter, mailbox)
        self._models: dict[Kind, str] = {}
        self._stage = IndexStage(
            self._timed,
            self._models,
            dict(options.fields),
            bulk_bytes=options.adapter.bulk_bytes * options.adapter.bulk_concurrency,
            bulk_age_s=adapter.bulk_age_s,
        )
        self._begun = False
        self._stopped = False
        #: Somebody waits: what is here already is still taken along, and then written.
        self._hurry = False
        #: The file whose records are being named, and those that were not yet.
        self._scan: tuple[str, Iterator[str]] | None = None
        self._router: Router[[]] = Router()
        self._router.on(EmbeddedText, self._add)
        self._router.on(EmbeddedPicture, self._add)
        self._router.on(m.ChannelClosed, self._channel_closed)
        self._router.on(m.Prepare, self._prepare)
        self._router.on(m.Delete, self._delete)
        self._router.on(m.Sweep, self._sweep)
        self._router.on(m.Flush, self._flush_soon)
        self._router.on(m.Publish, self._publish)
        self._router.on(m.Stop, self._stop)

    def run(self) -> None:
        """Write what comes until the supervisor says stop."""
        self._mailbox.start_clock()
        while not self._stopped:
            message = self._next(self._stage.due_in())
            if message is not None:
                self._router(message)
            if self._stage.due_in() == 0.0 or (self._hurry and self._mailbox.inbox.empty()):
                self._hurry = False
                self._flush()
        self._flush()

    def _next(self, timeout: float | None) -> object:
        if not self._mailbox.inbox.empty():
            return self._mailbox.inbox.get()
        with self._mailbox.waiting("in", "inference"):
            try:
                return self._mailbox.inbox.get(timeout=timeout)
            except queue.Empty:
                return None

    def _add(self, segment: EmbeddedSegment) -> None:
        self._begin()
        self._stage.add(segment)

    def _channel_closed(self, message: m.ChannelClosed) -> None:
        # The supervisor takes what has no answer by now for lost.
        self._flush()
        self._mailbox.send(message)

    def _prepare(self, message: m.Prepare) -> None:
        schema = message.schema
        new = self._retry(lambda: _fit(self._adapter, schema, message.renew))
        if schema.text_model:
            self._models["text"] = schema.text_model.name
        if schema.image_model:
            self._models["image"] = schema.image_model.name
        self._mailbox.send(m.Prepared(self._retry(self._adapter.identity), new))

    def _delete(self, message: m.Delete) -> None:
        self._begin()
        self._mailbox.send(m.Deleted(message.request, self._retry(lambda: self._timed.delete(message.ids))))

    def _flush_soon(self, message: m.Flush) -> None:
        self._hurry = True

    def _publish(self, message: m.Publish) -> None:
        self._flush()
        with self._mailbox.calling("publish"):
            self._retry(lambda: self._adapter.publish(message.expected))
        self._mailbox.send(m.Published(self._retry(self._adapter.state)))

    def _stop(self, message: m.Stop) -> None:
        self._stopped = True

    def _sweep(self, message: m.Sweep) -> None:
        """Name the next slice of a file's ids; the scan stays open in between, so that memory stays flat."""

        def next_ids() -> list[str]:
            if self._scan is None or self._scan[0] != message.source:
                self._scan = message.source, ids_made_with(self._adapter, message.source, message.chunkers)
            try:
                return list(islice(self._scan[1], SWEEP_IDS))
            except BaseException:
                # It gives nothing more. From the start again: ids that come twice do no harm.
                self._scan = None
                raise

        ids = self._retry(next_ids)
        last = len(ids) < SWEEP_IDS
        if last:
            self._scan = None
        self._mailbox.send(m.Found(message.request, ids, last))

    def _begin(self) -> None:
        """Before the first change of this run, so that a run that changes nothing leaves all as it is."""
        if not self._begun:
            self._retry(self._adapter.prepare)
            self._begun = True

    def _flush(self) -> None:
        written: list[object] = []
        for result in self._retry(self._stage.flush):
            self._retry.wrote = True
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
