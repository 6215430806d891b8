"""Rebuilds a lost ledger from the records in the database.

Records don't say where a segment ended, so each file that they name is parsed again, without a model, and
each segment whose records are all there is booked as acknowledged. What the file's content doesn't give any
more is booked as of an older version, which the next run deletes once the new one is acknowledged.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
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
from engine.records import IndexSchema, SectionFailure, index_url, source_of
from engine.repair import recipe
from engine.repair.books import Pulse
from engine.runtime.generation import text_generation
from engine.runtime.ledger.scratch import packed, scratch
from engine.runtime.ledger.store import Acknowledged, FailureRow, FileRow, FileState, Ledger
from engine.runtime.limits.lock import RunLock
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.run_directory import shard_folders, shard_of_folder
from engine.stages.discover import modified_ns, shard_of
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import SUBS_PER_UNIT, Checkpoint, Segment

#: Ids in one row of records whose segments aren't known.
LOOSE_IDS = 4096

#: Size that no file has: a file booked with it is read again by the next run.
UNKNOWN_SIZE = -1

_TABLES = """
CREATE TABLE sources (id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE);
CREATE TABLE records (
  source INTEGER NOT NULL, id BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (source, id)) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Adopted:
    """What the new ledger holds: whole files, files with something left to make, files that are gone."""

    whole: int = 0
    to_make: int = 0
    gone: int = 0
    records: int = 0


def adopt(run_dir: Path, url: str) -> Adopted:
    """Make the ledger of a run directory that has none out of the records in the database.

    Killed at any moment, the same call goes on. Raises `UsageError` where the ledger has files already, there
    is no index, or its models are not to be had here.
    """
    if shards := shard_folders(run_dir):
        raise UsageError(f"--run-dir {run_dir}: holds shards, each with a ledger: name one, as {shards[0]}")
    with closing(adapters.connect(url)) as adapter:
        schema = adapter.schema()
        if schema is None:
            raise UsageError(f"--adapter {url}: no index there; nothing to adopt")
        lock = rundir.claim(run_dir)
        try:
            with closing(Ledger(run_dir)) as ledger:
                if ledger.files() and not ledger.get("adopting"):
                    raise UsageError(
                        f"--run-dir {run_dir}: its ledger knows {ledger.files():,} files already;"
                        " --adopt makes one where there is none"
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
        """Read the records, and book whose ledger this is."""
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
        # The load may have been cut off before it was made searchable.
        ledger.set("unpublished", "1")
        ledger.set("adopting", ledger.get("adopting") or "-")
        ledger.commit()

    def _mine(self, source: str) -> bool:
        index, shards = self._shard
        return shard_of(source, shards) == index

    def _config(self, fields: dict[str, str]) -> Config:
        """The options of a run that would make these records, for a repair before the next run."""
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
        """File by file. One whose parsing killed this process before is left to the engine's own parsers."""
        ledger = self._ledger
        deadly = ledger.get("adopting")
        for key, source in self._found.execute("SELECT id, source FROM sources ORDER BY id"):
            self._pulse.beat()
            if ledger.find(source) is not None:
                continue
            path = _path_of(source)
            if path is None:
                self._gone(key, source)
            elif source == deadly:
                self._book(key, source, path, None)
            else:
                ledger.set("adopting", source)
                ledger.commit()
                try:
                    self._book(key, source, path, _status(path))
                except KeyboardInterrupt:
                    ledger.roll_back()
                    ledger.set("adopting", "-")
                    ledger.commit()
                    raise
            ledger.commit()
        ledger.set("adopting", "")
        ledger.commit()
        self._done.records = ledger.booked().records
        return self._done

    def _gone(self, key: int, source: str) -> None:
        """The file is not there any more: its records stay, as those of any removed file do."""
        row = self._ledger.add(source, source, UNKNOWN_SIZE, 0, 0)
        self._ledger.start_attempt(row.id)
        self._loose(key, row.id)
        self._ledger.finish(row.id, "indexed")
        self._done.gone += 1

    def _book(self, key: int, source: str, path: str, status: os.stat_result | None) -> None:
        """What the file gives now is its version 1; what is left of the records is version 0."""
        ledger = self._ledger
        size, mtime_ns = (status.st_size, modified_ns(status)) if status else (UNKNOWN_SIZE, 0)
        row = ledger.add(source, path, size, mtime_ns, 0)
        ledger.start_version(row.id, size, mtime_ns)
        ledger.start_attempt(row.id)
        row = ledger.file(row.id)
        state = self._parsed(key, row) if status else "pending"
        self._loose(key, row.id)
        ledger.finish(row.id, state)
        if state in ("indexed", "partial"):
            ledger.replace(row.id)
            self._done.whole += 1
        else:
            self._done.to_make += 1

    def _parsed(self, key: int, row: FileRow) -> FileState:
        """Book the segments that are there, and tell how the file stands."""
        complete, failures = True, 0
        job = FileJob(0, row.path, row.source, row.size, row.mtime_ns)
        for item in self._stage.parse(job):
            self._pulse.beat()
            if isinstance(item, Segment):
                complete &= self._segment(key, row, item)
            elif isinstance(item, SectionFailure):
                failures += 1
                ordinal = item.unit * SUBS_PER_UNIT
                told = (item.page, "parse", item.error_type, item.message)
                self._ledger.fail(FailureRow(row.id, ordinal, *told))
            else:
                return self._ended(row, item, complete, failures)
        return "pending"

    def _ended(self, row: FileRow, end: FileEnd, complete: bool, failures: int) -> FileState:
        if end.outcome == "failed":
            self._ledger.fail(FailureRow(row.id, -1, None, "parse", end.rule, end.message))
            return "failed"
        if end.outcome == "changed":
            self._ledger.touch(row.id, UNKNOWN_SIZE, 0)
        if end.outcome != "parsed" or end.kind is None:
            return "pending"
        self._ledger.describe(row.id, end.kind, end.media_type, self._generation(end.kind), end.content_hash)
        if not complete:
            return "pending"
        return "partial" if failures else "indexed"

    def _segment(self, key: int, row: FileRow, segment: Segment) -> bool:
        """Whether all of the segment's records are there; those that are are booked."""
        ids = [bytes.fromhex(record) for record in segment.ids]
        use = "UPDATE records SET used = 1 WHERE source = ? AND id = ?"
        there = [record for record in ids if self._found.execute(use, (key, record)).rowcount]
        complete = len(there) == len(ids)
        if there:
            self._ledger.acknowledge(
                [
                    Acknowledged(
                        file=row.id,
                        version=row.version,
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
        """Book the records that no segment took as those of version 0."""
        rows = self._found.execute("SELECT id FROM records WHERE source = ? AND NOT used", (key,))
        ordinal = 0
        while ids := [record for (record,) in rows.fetchmany(LOOSE_IDS)]:
            checkpoint = Checkpoint().dumps()
            loose = Acknowledged(file, 0, ordinal, ordinal - 1, None, checkpoint, b"".join(ids), True)
            self._ledger.acknowledge([loose])
            ordinal += 1

    def _generation(self, kind: str) -> str:
        if kind == "text":
            return text_generation(self._chunker.identity.key, self._text.digest)
        return self._image.digest if self._image else ""


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # gone since it was found
        return None


def _path_of(source: str) -> str | None:
    """The path of a file with this `source`; None where there is no such file."""
    raw = re.sub("%([89A-F][0-9A-F])", lambda byte: chr(0xDC00 + int(byte[1], 16)), source)
    fits = (path for path in (source, raw) if source_of(path) == source and os.path.isfile(path))
    return next(fits, None)
