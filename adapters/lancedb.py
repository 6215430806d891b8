"""LanceDB, embedded: a directory of column files, written by this process, with no server.

`lancedb:///abs/dir` or `lancedb://rel/dir`; the records are the table `chunks`. What the index was made with
is kept in the metadata of the table's `id` column, so that it is copied, restored and deleted with the table.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import lancedb

from adapters import arrow, vector_index
from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Filters
from adapters.presence import Presence
from adapters.schema import embedding_field, from_json, merged, model_of, refusals, to_json
from engine.errors import DISK_FULL, DatabaseUnavailableError, DiskFullError, SchemaMismatchError, UsageError
from engine.records import Hit, IndexSchema, Kind, Record, Vector

#: The table's name, part of the documented layout.
TABLE = "chunks"

#: Key of this engine's entry in the metadata of the column `id`.
METADATA_KEY = "vector-streaming-engine"

#: Appends and deletions after which the table is compacted already within a run. Each leaves a file, and a
#: list of all files of some 90 bytes for each: 3 GB of lists after so many. Compacting takes up to 130 MB
#: more than writing (measured with 800,000 records), which nobody misses in the end, when the other processes
#: are gone.
COMPACT_AFTER = 8192

#: How long an old version of the table stays for readers that opened it before a compaction.
KEEP_VERSIONS = timedelta(minutes=10)

#: Ids in one filter.
IDS_PER_FILTER = 1000

#: Bytes of text and vectors in one append, which takes four times as many while it is made (measured).
APPEND_BYTES = 4 << 20

#: Records in one batch of a scan, and of one that reads ids alone.
SCAN_ROWS, ID_ROWS = 512, 8192

#: Bytes of table metadata that LanceDB may cache. Its own default of 1 GB fills with the file lists of
#: past versions: 960 MB after 2,000 appends, against 212 MB for the whole process with this bound.
METADATA_CACHE = 8 << 20

#: Bytes of vector index that LanceDB may cache.
INDEX_CACHE = 256 << 20

#: Seconds that a writer waits for another one to end, as the last process of a killed run soon does.
WRITER_PATIENCE_S = 10.0

#: The columns that hold vectors.
VECTORS = ("text_embedding", "image_embedding")

#: Attempts to agree with another process that creates or alters the same table.
SCHEMA_ATTEMPTS = 5


def connect(url: str, options: AdapterOptions) -> Adapter:
    """Open the directory behind `url`; nothing is created before `ensure_schema`.

    Raises `UsageError` where the path can't be a directory, and where the options name an unknown index.
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
    vector_index.check(url, options.index_options)
    if options.task is not None:
        from adapters.lance_staging import StagedLance

        return StagedLance(directory, options)
    return LanceAdapter(directory, options)


class LanceAdapter(Adapter):
    """One table. A commit is a file renamed into place, which is LanceDB's standard of durable.

    New records are appended. Where some may be in the table, the ids are looked up and only the missing ones
    appended: an id is a digest of all that matters in a record, so the one that is there is the same. Nothing
    is deleted meanwhile, hence there is no moment at which a crash loses a record acknowledged before. For
    the lookup all ids are read once into a filter; only those that pass it are asked of the table, which has
    no index of ids and is read in full each time.
    """

    scheme = "lancedb"
    # Each write is a file of its own, and a list of all files.
    bulk_age_s = 5.0

    def __init__(self, directory: Path, options: AdapterOptions) -> None:
        self._directory = directory
        self._where = f"lancedb://{directory}"
        self._table: Any = None
        self._folder = -1
        self._identity: str | None = None
        self._schema: IndexSchema | None = None
        self._written_to: str | None = None
        self._changes = 0
        self._doubtful = False
        self._options = options
        self._presence: Presence | None = None
        self._presence_at = 0
        self._lock: IO[str] | None = None

    def identity(self) -> str | None:
        self._refresh()
        return self._identity

    def state(self) -> str | None:
        self._refresh()
        return None if self._table is None else f"{self._identity} {self._table.version}"

    def schema(self) -> IndexSchema | None:
        self._refresh()
        return self._schema

    def ensure_schema(self, schema: IndexSchema) -> None:
        for kind in ("text", "image"):
            if model := model_of(schema, kind):
                # Else it would be said when all is written.
                vector_index.check_dimensions(self._where, self._options.index_options, model.dimensions)
        for attempt in range(SCHEMA_ATTEMPTS):
            try:
                with self._errors():
                    self._ensure(schema)
                return
            except (
                ValueError,
                DatabaseUnavailableError,
            ):  # LanceDB's words for a race lost to another process
                if attempt == SCHEMA_ATTEMPTS - 1:
                    raise

    def _ensure(self, wanted: IndexSchema) -> None:
        if self.schema() is None:
            self._create(wanted)
        existing = self.schema()
        if existing is None:
            raise DatabaseUnavailableError(f"{self._where}: deleted while it was created")
        if not os.access(self._directory, os.W_OK):
            raise UsageError(f"{self._where}: not writable")
        result = merged(existing, wanted, self._where)
        for kind in ("text", "image"):
            model = model_of(result, kind)
            if model and f"{kind}_embedding" not in self._table.schema.names:
                self._table.add_columns(arrow.vector_column(kind, model.dimensions))
        if result != existing:
            metadata = _metadata(str(self._identity), result)
            self._table.update_field_metadata({"path": "id", "metadata": metadata})
        self._schema, self._written_to = result, self._identity

    def _create(self, schema: IndexSchema) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFullError(f"{self._where}: the disk is full") from None
            raise UsageError(f"{self._where}: can't be created: {error.strerror}") from None
        # One after another: of two tables made at once, LanceDB lets the second take the first's place.
        with open(self._directory / ".creation", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.schema() is None:
                columns = arrow.columns(schema, _metadata(uuid.uuid4().hex, schema))
                self._database().create_table(TABLE, schema=columns)

    def prepare(self) -> None:
        """Raises `UsageError` where another process writes to the directory: LanceDB takes one writer."""
        if self._lock is None:
            with self._errors():
                self._directory.mkdir(parents=True, exist_ok=True)
                lock = open(self._directory / ".writer", "a", encoding="utf-8")  # noqa: SIM115 - held until close
            deadline = time.monotonic() + WRITER_PATIENCE_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        lock.close()
                        raise UsageError(
                            f"{self._where}: another process writes to it, and LanceDB takes one writer;"
                            " wait for that run, or name another directory"
                        ) from None
                time.sleep(0.1)
            self._lock = lock

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        outcomes = refusals(records, self._writable())
        accepted = [record for record, refused in zip(records, outcomes, strict=True) if refused is None]
        missing = {record.id: record for record in accepted}
        self._compact_when_due()
        with self._errors():
            if maybe_present or self._doubtful:
                for known in self.present(self._may_hold(list(missing))):
                    missing.pop(known, None)
            for portion in _portions(missing.values()):
                # An append that fails may have been committed all the same: nothing counts as new any more.
                before, self._doubtful = self._doubtful, True
                added = self._table.add(arrow.table_of(portion, self._table.schema), write_parallelism=1)
                self._doubtful = before
                self._changed(added.version, [record.id for record in portion])
        return outcomes

    def present(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that the table holds."""
        if self._table is None:
            self._refresh()
        found: list[str] = []
        if self._table is not None:
            with self._errors():
                for condition in _conditions(ids):
                    query = self._table.search().where(condition).select(["id"]).limit(None)
                    found += query.to_arrow().column("id").to_pylist()
        return found

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """The whole table as Arrow record batches of at most so many rows, streamed."""
        self._refresh()
        if self._table is not None:
            with self._errors():
                query = self._table.search().select(list(columns or self._table.schema.names)).limit(None)
                yield from query.to_batches(rows)

    def append(self, table: Any) -> int:
        """Append rows that another table of this form holds and this one doesn't; returns their number."""
        self._writable()
        if table.num_rows:
            self._compact_when_due()
            with self._errors():
                added = self._table.add(arrow.conformed(table, self._table.schema), write_parallelism=1)
            self._changed(added.version, table.column("id").to_pylist())
        return int(table.num_rows)

    def gather(self) -> int:
        from adapters.lance_staging import gather

        self.prepare()
        return gather(self, self._directory)

    def delete(self, ids: Sequence[str]) -> int:
        self._writable()
        deleted = 0
        for condition in _conditions(ids):
            self._compact_when_due()
            with self._errors():
                done = self._table.delete(condition)
            deleted += done.num_deleted_rows
            self._changed(done.version)
        return deleted

    def _may_hold(self, ids: list[str]) -> list[str]:
        """Those of the ids that the table may hold; for that all of its ids are read, where they were not."""
        version = self._table.version
        if self._presence is None or self._presence.crowded or self._presence_at != version:
            self._presence = None
            presence, self._presence_at = Presence(self._table.count_rows()), version
            for batch in self.batches(ID_ROWS, ["id"]):
                presence.add(batch.column("id").drop_null().to_pylist())
            self._presence = presence
        return self._presence.may_hold(ids)

    def _changed(self, version: int, added: Sequence[str] = ()) -> None:
        """This adapter has made that version. Where another made one before it, all ids are read anew."""
        self._changes += 1
        if self._presence is not None and self._presence_at == version - 1:
            self._presence.add(added)
            self._presence_at = version

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        self._refresh()
        if self._table is None:
            return
        with self._errors():
            present = self._table.schema.names
            names = [name for name in present if with_embeddings or name not in VECTORS]
            query = self._table.search().select(names).limit(None)
            if source is not None:
                query = query.where(f"source = {_quoted(source)}")
            for batch in query.to_batches(SCAN_ROWS):
                matrices = {name: arrow.matrix_of(batch, name) for name in VECTORS if name in names}
                valid = {name: batch.column(name).is_valid().to_pylist() for name in matrices}
                for index, row in enumerate(batch.drop_columns(list(matrices)).to_pylist()):
                    if with_embeddings:
                        own = embedding_field(row["kind"])
                        there = own in matrices and valid[own][index]
                        row.update(dict.fromkeys(VECTORS))
                        row[own] = matrices[own][index] if there else None
                    yield row

    def count(self) -> int:
        self._refresh()
        with self._errors():
            return 0 if self._table is None else int(self._table.count_rows())

    def search(self, kind: Kind, vector: Vector, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        self._refresh()
        column = embedding_field(kind)
        if self._table is None or column not in self._table.schema.names:
            return []
        # The records of the other kind have null there, which LanceDB passes over without a word.
        condition = _passes(filters)
        with self._errors():
            query = self._table.search(vector, vector_column_name=column, query_type="vector")
            query = query.distance_type("cosine")
            if condition:
                query = query.where(condition, prefilter=True)
            if self._options.exact:
                query = query.bypass_vector_index()
            else:
                query = vector_index.tuned(query, bool(condition))
            query = query.select(["id", "source", "page", "text", "_distance"])
            rows = query.limit(k).to_list()
        hits = [Hit(r["id"], r["source"], kind, r["page"], 1.0 - r["_distance"], r["text"]) for r in rows]
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
                with self._errors():
                    rows = self._table.count_rows(f"kind = {_quoted(kind)}")
                    vector_index.build(self._table, f"{kind}_embedding", rows, self._options.index_options)

    def close(self) -> None:
        self._leave()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _leave(self) -> None:
        """Let go of the table, and not of the right to write, which `prepare` took before it was opened."""
        self._table = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    def _database(self) -> Any:
        session = lancedb.Session(
            index_cache_size_bytes=INDEX_CACHE, metadata_cache_size_bytes=METADATA_CACHE
        )
        # An interval of zero: each call sees what other processes have committed.
        return lancedb.connect(self._directory, session=session, read_consistency_interval=timedelta(0))

    def _refresh(self) -> None:
        """Find the table, again where it was replaced, and read what it was made with."""
        if not self._is_open():
            self._open()
        if self._table is None:
            self._identity = self._schema = None
            return
        with self._errors():
            schema = self._table.schema
        metadata = schema.field("id").metadata if "id" in schema.names else None
        try:
            entry = json.loads((metadata or {})[METADATA_KEY.encode()])
            self._identity, stored = str(entry["identity"]), entry["schema"]
        except (KeyError, ValueError):
            raise SchemaMismatchError(
                f"{self._where}: its table {TABLE} was not made by this engine; name another directory"
            ) from None
        self._schema = from_json(stored, self._where)

    def _open(self) -> None:
        self._leave()
        path = self._directory / f"{TABLE}.lance"
        # Where there is no version, a creation was cut off by a full disk or a kill: it may be made anew.
        if not any((path / "_versions").glob("*.manifest")):
            return
        # Held open, so that its inode number can't be given to a directory that replaces it.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self._errors():
                self._table = self._database().open_table(TABLE)
        except BaseException:
            os.close(folder)
            raise
        self._folder = folder

    def _is_open(self) -> bool:
        """Whether there is an open table, and it is still the one on the disk."""
        if self._table is None:
            return False
        held = os.fstat(self._folder)
        try:
            found = (self._directory / f"{TABLE}.lance").stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def _writable(self) -> IndexSchema:
        """The index's schema; refuses a table that was replaced, or deleted, since it was first written to.

        Without this LanceDB makes a deleted table anew out of the next append, and the rest is missing.
        """
        if self._written_to is None:
            self._refresh()
            self._written_to = self._identity
        if self._schema is None:
            raise UsageError(f"{self._where}: no index there to write to")
        if not self._is_open() or self._identity != self._written_to:
            raise UsageError(f"{self._where}: the index was deleted or replaced during the run")
        return self._schema

    def _compact_when_due(self) -> None:
        if self._changes >= COMPACT_AFTER:
            self._compact()

    def _compact(self) -> None:
        """Merge small files into large ones; drop old versions, but for those a reader may have open."""
        with self._errors():
            vector_index.drop_outgrown(self._table)
            self._table.optimize(cleanup_older_than=KEEP_VERSIONS)
        self._changes = 0

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """LanceDB raises RuntimeError and OSError for all its troubles; only the text tells them apart."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            text = " ".join(str(error).split())
            if "No space left" in text or "os error 28" in text or "quota exceeded" in text:
                raise DiskFullError(f"{self._where}: the disk is full") from error
            if "Permission denied" in text or "Read-only file system" in text:
                raise UsageError(f"{self._where}: not writable") from error
            raise DatabaseUnavailableError(f"{self._where}: {text[:300]}") from error


def _metadata(identity: str, schema: IndexSchema) -> dict[str, str]:
    return {METADATA_KEY: json.dumps({"identity": identity, "schema": to_json(schema)})}


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


def _conditions(ids: Sequence[str]) -> Iterator[str]:
    """SQL conditions that together mean these ids."""
    for start in range(0, len(ids), IDS_PER_FILTER):
        quoted = map(_quoted, ids[start : start + IDS_PER_FILTER])
        yield f"id IN ({', '.join(quoted)})"


def _passes(filters: Filters) -> str:
    """The SQL condition of a search; empty where everything passes."""
    conditions = []
    if filters.source_prefix:
        conditions.append(f"starts_with(source, {_quoted(filters.source_prefix)})")
    if filters.media_type is not None:
        conditions.append(f"media_type = {_quoted(filters.media_type)}")
    return " AND ".join(conditions)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
