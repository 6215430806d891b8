"""The adapter: the table `chunks` of one directory."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Filters
from adapters.lancedb import DATABASE, TABLE, arrow, vector_index
from adapters.lancedb.presence import Presence
from adapters.lancedb.table import ChunkTable, filter_condition, id_conditions, quote
from adapters.schema import embedding_field, model_of, refusals
from engine.errors import IndexLostError, UsageError
from engine.records import Hit, IndexSchema, Kind, Record, Vector

#: Appends and deletions after which the table is compacted already within a run. Each leaves a file, and a
#: list of all files of some 90 bytes for each: 3 GB of lists after so many. Compacting takes up to 130 MB
#: more than writing (measured with 800,000 records); at the end of a run, when the other processes are gone,
#: that memory is free.
COMPACT_AFTER = 8192

#: How long an old version of the table is kept for readers that opened it before a compaction.
KEEP_VERSIONS = timedelta(minutes=10)

#: Bytes of text and vectors in one append, which takes four times as much memory (measured).
APPEND_BYTES = 4 << 20

#: Records in one batch of a scan, and of one that reads ids alone.
SCAN_ROWS, ID_ROWS = 512, 8192

#: The file that the writer locks.
WRITER = ".writer"

#: Seconds that a writer waits for another one to end (the last process of a killed run ends soon), and
#: for which a check before a run looks for another writer.
WRITER_PATIENCE_S, CHECK_PATIENCE_S = 10.0, 1.0

#: The columns that make a hit; a table of schema version 1 lacks some until it is written to.
HIT_COLUMNS = ("id", "source", "page", "text", "document", "title", "headings")


def connect(url: str, options: AdapterOptions, own: Mapping[str, Any]) -> Adapter:
    """Open the directory behind `url`; nothing is created before `ensure_schema`.

    Raises `UsageError` where the path can't be a directory.
    """
    path = url.partition("://")[2]
    if not path:
        raise UsageError(f"--adapter {url}: name a directory, as in lancedb://vectors.lancedb")
    directory = Path(path).absolute()
    for part in (directory, *directory.parents):
        if part.exists():
            if not part.is_dir():
                raise UsageError(f"--adapter {url}: {part} is not a directory")
            break
    adapter = LanceAdapter(directory, own["index"], options.exact)
    if options.task is None:
        return adapter
    from adapters.lancedb.staging import StagedLance

    return StagedLance(adapter, options.task)


class LanceAdapter(Adapter):
    """One table. A commit is a file renamed into place, which is as durable as LanceDB writes are.

    New records are appended. Where some may be in the table, the ids are looked up and only the missing ones
    appended: an id is a digest of the record's content, so the stored record is the same. Nothing is
    deleted meanwhile, so a crash never loses a record acknowledged before. For the lookup all ids are read
    once into a filter; only ids that pass it are looked up in the table, which has no index of ids and is
    read in full.
    """

    scheme = "lancedb"
    capabilities = DATABASE.capabilities
    # Each write is a file of its own, and a list of all files.
    bulk_age_s = 5.0

    def __init__(self, directory: Path, index: str | None = None, exact: bool = False) -> None:
        #: The table, for `staging`.
        self.table = ChunkTable(directory)
        self._index = index
        self._exact = exact
        self._written_to: str | None = None
        self._changes = 0
        self._doubtful = False
        self._presence: Presence | None = None
        self._presence_at = 0
        self._lock: IO[str] | None = None

    def identity(self) -> str | None:
        self.table.refresh()
        return self.table.identity

    def state(self) -> str | None:
        handle = self.table.refresh()
        return None if handle is None else f"{self.table.identity} {handle.version}"

    def schema(self) -> IndexSchema | None:
        self.table.refresh()
        return self.table.schema

    def ensure_schema(self, schema: IndexSchema) -> None:
        for kind in ("text", "image"):
            if model := model_of(schema, kind):
                # Checked here: otherwise the error would come after everything is written.
                vector_index.check_dimensions(self.table.where, self._index, model.dimensions)
        self.table.ensure(schema)
        self._written_to = self.table.identity

    def check_writer(self) -> None:
        if self._lock is None:
            with suppress(FileNotFoundError), open(self.table.directory / WRITER, encoding="utf-8") as lock:
                self._take(lock, CHECK_PATIENCE_S)

    def prepare(self) -> None:
        """Raises `UsageError` where another process writes to the directory: LanceDB takes one writer."""
        if self._lock is None:
            with self.table.errors():
                self.table.directory.mkdir(parents=True, exist_ok=True)
                lock = open(self.table.directory / WRITER, "a", encoding="utf-8")  # noqa: SIM115 - held
            try:
                self._take(lock, WRITER_PATIENCE_S)
            except UsageError:
                lock.close()
                raise
            self._lock = lock

    def _take(self, lock: IO[str], seconds: float) -> None:
        """Lock the file; raises `UsageError` where another process holds it for so long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"{self.table.where}: another process writes to it, and LanceDB takes one writer;"
                        " wait for that run, or name another directory"
                    ) from None
            time.sleep(0.1)

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        outcomes = refusals(records, self._writable())
        accepted = [record for record, refused in zip(records, outcomes, strict=True) if refused is None]
        missing = {record.id: record for record in accepted}
        self._compact_when_due()
        with self.table.errors():
            if maybe_present or self._doubtful:
                for known in self.present(self._may_hold(list(missing))):
                    missing.pop(known, None)
            for portion in _portions(missing.values()):
                # A failed append may have been committed: from now on no record counts as new.
                before, self._doubtful = self._doubtful, True
                added = self.table.handle.add(
                    arrow.table_of(portion, self.table.handle.schema), write_parallelism=1
                )
                self._doubtful = before
                self._changed(added.version, [record.id for record in portion])
        return outcomes

    def present(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that the table holds."""
        handle = self.table.refresh() if self.table.handle is None else self.table.handle
        found: list[str] = []
        if handle is not None:
            with self.table.errors():
                for condition in id_conditions(ids):
                    query = handle.search().where(condition).select(["id"]).limit(None)
                    found += query.to_arrow().column("id").to_pylist()
        return found

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The whole table as Arrow record batches of at most so many rows, streamed."""
        handle = self.table.refresh()
        if handle is not None:
            with self.table.errors():
                query = handle.search().select(list(columns or handle.schema.names)).limit(None)
                yield from query.to_batches(rows)

    def append(self, table: Any) -> int:
        """Append rows that another table of this form holds and this one doesn't; returns their number."""
        self._writable()
        if table.num_rows:
            self._compact_when_due()
            with self.table.errors():
                added = self.table.handle.add(
                    arrow.conformed(table, self.table.handle.schema), write_parallelism=1
                )
            self._changed(added.version, table.column("id").to_pylist())
        return int(table.num_rows)

    def gather(self) -> int:
        from adapters.lancedb.staging import gather

        self.prepare()
        return gather(self, self.table.directory)

    def delete(self, ids: Sequence[str]) -> int:
        self._writable()
        deleted = 0
        for condition in id_conditions(ids):
            self._compact_when_due()
            with self.table.errors():
                done = self.table.handle.delete(condition)
            deleted += done.num_deleted_rows
            self._changed(done.version)
        return deleted

    def _may_hold(self, ids: list[str]) -> list[str]:
        """Those of the ids that the table may hold; reads all of its ids first, where that is not done."""
        version = self.table.handle.version
        if self._presence is None or self._presence.crowded or self._presence_at != version:
            self._presence = None
            presence, self._presence_at = Presence(self.table.handle.count_rows()), version
            for batch in self.batches(ID_ROWS, ["id"]):
                presence.add(batch.column("id").drop_null().to_pylist())
            self._presence = presence
        return self._presence.may_hold(ids)

    def _changed(self, version: int, added: Sequence[str] = ()) -> None:
        """This adapter made that version. Where another writer made one before it, all ids are read again."""
        self._changes += 1
        if self._presence is not None and self._presence_at == version - 1:
            self._presence.add(added)
            self._presence_at = version

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        handle = self.table.refresh()
        if handle is None:
            return
        with self.table.errors():
            names = [name for name in handle.schema.names if with_embeddings or name not in arrow.VECTORS]
            lacking = dict.fromkeys(name for name in HIT_COLUMNS if name not in names)
            fields = self.table.schema.fields if self.table.schema else ()
            lists = [name for name, kind in fields if kind == "strings"]
            query = handle.search().select(names).limit(None)
            if source is not None:
                query = query.where(f"source = {quote(source)}")
            for batch in query.to_batches(SCAN_ROWS):
                matrices = {name: arrow.matrix_of(batch, name) for name in arrow.VECTORS if name in names}
                valid = {name: batch.column(name).is_valid().to_pylist() for name in matrices}
                for index, row in enumerate(batch.drop_columns(list(matrices)).to_pylist()):
                    if with_embeddings:
                        own = embedding_field(row["kind"])
                        there = own in matrices and valid[own][index]
                        row.update(dict.fromkeys(arrow.VECTORS))
                        row[own] = matrices[own][index] if there else None
                    for name in lists:
                        row[name] = None if row[name] is None else tuple(row[name])
                    yield lacking | row

    def count(self) -> int:
        handle = self.table.refresh()
        with self.table.errors():
            return 0 if handle is None else int(handle.count_rows())

    def search(self, kind: Kind, vector: Vector, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        handle = self.table.refresh()
        column = embedding_field(kind)
        if handle is None or column not in handle.schema.names:
            return []
        # Records of the other kind have null there, which LanceDB skips.
        condition = filter_condition(filters)
        with self.table.errors():
            query = handle.search(vector, vector_column_name=column, query_type="vector")
            query = query.distance_type("cosine")
            if condition:
                query = query.where(condition, prefilter=True)
            query = query.bypass_vector_index() if self._exact else vector_index.tuned(query, bool(condition))
            columns = [name for name in HIT_COLUMNS if name in handle.schema.names]
            rows = query.select([*columns, "_distance"]).limit(k).to_list()
        hits = [
            Hit(kind=kind, score=1.0 - row["_distance"], **{name: row[name] for name in columns})
            for row in rows
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def publish(self, expected: int | None = None) -> None:
        # Also where this process changed nothing: one that did may have been killed before it came to this.
        if self._written_to is None and self.schema() is None:
            return
        schema = self._writable()
        self._presence = None
        self._compact()
        for kind in ("text", "image"):
            if model_of(schema, kind) is not None:
                with self.table.errors():
                    rows = self.table.handle.count_rows(f"kind = {quote(kind)}")
                    vector_index.build(self.table.handle, f"{kind}_embedding", rows, self._index)

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.table.directory.rglob("*") if path.is_file())

    def drop(self) -> None:
        # What else lies in the directory is not the engine's.
        self.close()
        directory = self.table.directory
        for name in (f"{TABLE}.lance", "staging"):
            shutil.rmtree(directory / name, ignore_errors=True)
        for name in (".creation", ".writer"):
            (directory / name).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or not there
            directory.rmdir()

    def close(self) -> None:
        self.table.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _writable(self) -> IndexSchema:
        """The index's schema; refuses a table that was replaced, or deleted, since it was first written to.

        Without this LanceDB makes a deleted table anew out of the next append, and the rest is missing.
        """
        table = self.table
        if self._written_to is None:
            table.refresh()
            self._written_to = table.identity
        if table.schema is None:
            raise IndexLostError(f"{table.where}: no index there to write to")
        if not table.is_open() or table.identity != self._written_to:
            raise IndexLostError(f"{table.where}: the index was deleted or replaced during the run")
        return table.schema

    def _compact_when_due(self) -> None:
        if self._changes >= COMPACT_AFTER:
            self._compact()

    def _compact(self) -> None:
        """Merge small files into large ones; drop old versions, but for those a reader may have open."""
        with self.table.errors():
            vector_index.drop_outgrown(self.table.handle)
            self.table.handle.optimize(cleanup_older_than=KEEP_VERSIONS)
        self._changes = 0


def _portions(records: Iterable[Record]) -> Iterator[list[Record]]:
    """The records in their order, as many at once as one append takes."""
    portion: list[Record] = []
    size = 0
    for record in records:
        portion.append(record)
        size += len(record.text or "") + record.embedding.nbytes
        if size >= APPEND_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
