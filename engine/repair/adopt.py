"""Rebuilds a lost ledger from the records in the database.

Records don't show where a segment ended, so each file that they name is parsed again, without a model, and
each segment whose records are all in the database is entered as acknowledged. Records that the file's content
no longer gives are entered under an older version, which the next run deletes after the new one is written.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import adapters
from adapters.base import Adapter
from engine.config import (
    Config,
    DatabaseConfig,
    MemoryConfig,
    ModelConfig,
    ParsingConfig,
    TaskConfig,
    sorted_pairs,
)
from engine.errors import UsageError
from engine.machine.cores import default_workers
from engine.records import IndexSchema, SectionFailure, index_url
from engine.repair import recipe
from engine.repair.books import Pulse
from engine.runtime.generation import text_generation
from engine.runtime.ledger.items import WHOLE_ITEM, FailureRow, ItemRow, StoredState
from engine.runtime.ledger.scratch import packed, scratch
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.lock import RunLock
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.run_directory import shard_folders, shard_of_folder
from engine.sources import find_item
from engine.sources.base import Item, shard_of
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import SUBS_PER_UNIT, Checkpoint, Segment

#: Ids in one row of records that belong to no segment.
LOOSE_IDS = 4096

#: A size that no file has: a file entered with it is read again by the next run.
UNKNOWN_SIZE = -1

_TABLES = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE);
CREATE TABLE records (
  source INTEGER NOT NULL, id BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (source, id)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Adopted:
    """What the new ledger holds: complete files, files that the next run must index, files that are gone."""

    whole: int = 0
    to_make: int = 0
    gone: int = 0
    records: int = 0


def adopt(run_dir: Path, url: str) -> Adopted:
    """Make the ledger of a run directory that has none from the records in the database.

    After a kill at any moment the same call continues. Raises `UsageError` where the ledger has files
    already, there is no index, or its models are not available here.
    """
    if shards := shard_folders(run_dir):
        raise UsageError(
            f"--run-dir {run_dir}: holds shards with a ledger each; name one, such as {shards[0]}"
        )
    with closing(adapters.connect(url)) as adapter:
        schema = adapter.schema()
        if schema is None:
            raise UsageError(f"--adapter {url}: no index there; nothing to adopt")
        lock = rundir.claim(run_dir)
        try:
            with closing(Ledger(run_dir)) as ledger:
                if (known := ledger.items.count()) and not ledger.get("adopting"):
                    raise UsageError(
                        f"--run-dir {run_dir}: its ledger already holds {known:,} items;"
                        " --adopt is for a run directory without a ledger"
                    )
                with closing(scratch(run_dir, _TABLES)) as found:
                    adoption = _Adoption(run_dir, url, schema, ledger, lock, found)
                    adoption.begin(adapter)
                    return adoption.run()
        finally:
            lock.release()


class _Adoption:
    def __init__(
        self,
        run_dir: Path,
        url: str,
        schema: IndexSchema,
        ledger: Ledger,
        lock: RunLock,
        found: sqlite3.Connection,
    ) -> None:
        self._shard = shard_of_folder(run_dir)
        self._run_dir = run_dir
        self._url = url
        self._schema = schema
        self._ledger = ledger
        self._pulse = Pulse()
        self._pulse.locks.append(lock)
        self._found = found
        self._text, self._image = recipe.specs(schema, url)
        self._chunker = recipe.chunker(schema, self._text, url)
        self._stage = ParseStage(self._text, self._chunker, lambda: self._image)
        self._done = Adopted()

    def begin(self, adapter: Adapter) -> None:
        """Read the records, and enter index and options in the ledger."""
        values: dict[str, str] = {}
        for row in adapter.scan():
            record, source = packed(row["id"]), row["source"]
            self._pulse.beat()
            if record is None or not isinstance(source, str) or not self._mine(source):
                continue
            self._found.execute("INSERT OR IGNORE INTO sources (source) VALUES (?)", (source,))
            self._found.execute(
                "INSERT OR IGNORE INTO records (source, id) SELECT id, ? FROM sources WHERE source = ?",
                (record, source),
            )
            if not values:
                given = {name: row[name] for name, _ in self._schema.fields}
                values = {name: value for name, value in given.items() if isinstance(value, str)}
        ledger = self._ledger
        ledger.set("adapter", index_url(self._url))
        ledger.set("identity", adapter.identity() or "")
        ledger.set("config", json.dumps(self._config(values).as_dict()))
        # The load may have ended before it was published.
        ledger.set("unpublished", "1")
        ledger.set("adopting", ledger.get("adopting") or "-")
        ledger.commit()

    def _mine(self, source: str) -> bool:
        index, shards = self._shard
        return shard_of(source, shards) == index

    def _config(self, fields: dict[str, str]) -> Config:
        """The options of a run that gives these records, for a repair before the next run."""
        cuts = self._chunker.identity
        return Config(
            parsing=ParsingConfig(cuts.name, chunker_options=sorted_pairs(dict(cuts.options))),
            models=ModelConfig(self._text.name, self._image.name if self._image else None),
            database=DatabaseConfig(self._url, sorted_pairs(fields)),
            memory=MemoryConfig(default_workers()),
            task=TaskConfig(self._shard),
            run_dir=self._run_dir,
        )

    def run(self) -> Adopted:
        """Adopt file by file. A file whose parsing killed this process is left to the next run."""
        ledger = self._ledger
        deadly = ledger.get("adopting")
        for key, source in self._found.execute("SELECT id, source FROM sources ORDER BY id"):
            self._pulse.beat()
            if ledger.items.find(source) is not None:
                continue
            item = find_item(source)
            if item is None:
                self._gone(key, source)
            elif source == deadly:
                self._book(key, replace(item, size=UNKNOWN_SIZE), parse=False)
            else:
                ledger.set("adopting", source)
                ledger.commit()
                try:
                    self._book(key, item)
                except KeyboardInterrupt:
                    ledger.roll_back()
                    ledger.set("adopting", "-")
                    ledger.commit()
                    raise
            ledger.commit()
        ledger.set("adopting", "")
        ledger.commit()
        self._done.records = ledger.audit.booked().records
        return self._done

    def _gone(self, key: int, source: str) -> None:
        """The file no longer exists: its records stay, as those of any removed file do."""
        items = self._ledger.items
        row = items.add(Item(source, UNKNOWN_SIZE, "", 0, source), 0)
        items.start_attempt(row.id)
        self._loose(key, row.id)
        items.finish(row.id, "indexed")
        self._done.gone += 1

    def _book(self, key: int, item: Item, parse: bool = True) -> None:
        """Enter what the item gives now as revision 1, and the remaining records as revision 0."""
        items = self._ledger.items
        row = items.add(item, 0)
        items.start_revision(row.id, item)
        items.start_attempt(row.id)
        row = items.get(row.id)
        state = self._parsed(key, row) if parse else "pending"
        self._loose(key, row.id)
        items.finish(row.id, state)
        if state in ("indexed", "partial"):
            self._ledger.leftovers.replace(row.id)
            self._done.whole += 1
        else:
            self._done.to_make += 1

    def _parsed(self, key: int, row: ItemRow) -> StoredState:
        """Enter the segments that are in the database; returns the state of the file."""
        complete, failures = True, 0
        job = FileJob(0, row.item)
        for item in self._stage.parse(job):
            self._pulse.beat()
            if isinstance(item, Segment):
                complete &= self._segment(key, row, item)
            elif isinstance(item, SectionFailure):
                failures += 1
                self._ledger.items.fail(FailureRow.of_section(row.id, item.unit * SUBS_PER_UNIT, item))
            else:
                return self._ended(row, item, complete, failures)
        return "pending"

    def _ended(self, row: ItemRow, end: FileEnd, complete: bool, failures: int) -> StoredState:
        if end.outcome == "failed":
            self._ledger.items.fail(FailureRow(row.id, WHOLE_ITEM, None, "parse", end.rule, end.message))
            return "failed"
        if end.outcome == "changed":
            self._ledger.items.touch(row.id, replace(row.item, size=UNKNOWN_SIZE))
        if end.outcome != "parsed" or end.kind is None:
            return "pending"
        generation = self._generation(end.kind)
        self._ledger.items.describe(row.id, end.kind, end.media_type, generation, end.content_hash)
        if not complete:
            return "pending"
        return "partial" if failures else "indexed"

    def _segment(self, key: int, row: ItemRow, segment: Segment) -> bool:
        """Enter the segment's records that are in the database; whether these are all."""
        ids = [bytes.fromhex(record) for record in segment.ids]
        use = "UPDATE records SET used = 1 WHERE source = ? AND id = ?"
        there = [record for record in ids if self._found.execute(use, (key, record)).rowcount]
        complete = len(there) == len(ids)
        if there:
            self._ledger.segments.acknowledge(
                [
                    Acknowledged(
                        item=row.id,
                        revision=row.revision,
                        ordinal=segment.ordinal,
                        after=segment.after,
                        page=segment.page,
                        checkpoint=segment.checkpoint,
                        ids=b"".join(there),
                        complete=complete,
                    )
                ]
            )
        return complete

    def _loose(self, key: int, file: int) -> None:
        """Enter the records that belong to no segment as those of revision 0."""
        rows = self._found.execute("SELECT id FROM records WHERE source = ? AND NOT used", (key,))
        ordinal = 0
        while ids := [record for (record,) in rows.fetchmany(LOOSE_IDS)]:
            checkpoint = Checkpoint().dumps()
            loose = Acknowledged(file, 0, ordinal, ordinal - 1, None, checkpoint, b"".join(ids), True)
            self._ledger.segments.acknowledge([loose])
            ordinal += 1

    def _generation(self, kind: str) -> str:
        if kind == "text":
            return text_generation(self._chunker.identity.key, self._text.digest)
        return self._image.digest if self._image else ""
