"""The table `chunks` of a directory: opened, made, agreed on with other processes.

What the index was made with is kept in the metadata of the column `id`, so that it is copied, restored and
deleted with the table.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb

from adapters.base import Filters
from adapters.lancedb import TABLE, arrow
from adapters.schema import from_json, merged, to_json
from engine.errors import DISK_FULL, DatabaseUnavailableError, DiskFullError, SchemaMismatchError, UsageError
from engine.records import IndexSchema

#: Key of this engine's entry in the metadata of the column `id`.
METADATA_KEY = "vector-streaming-engine"

#: Ids in one filter.
IDS_PER_FILTER = 1000

#: Bytes of table metadata that LanceDB may cache. Its own default of 1 GB fills with the file lists of
#: past versions: 960 MB after 2,000 appends, against 212 MB for the whole process with this bound.
METADATA_CACHE = 8 << 20

#: Bytes of vector index that LanceDB may cache.
INDEX_CACHE = 256 << 20

#: Attempts to agree with another process that creates or alters the same table.
SCHEMA_ATTEMPTS = 5


class ChunkTable:
    """The table of one directory. `handle` is LanceDB's own, None where there is no table.

    `identity` and `schema` are what `refresh` has read last, None without a table.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: The URL, for messages.
        self.where = f"lancedb://{directory}"
        self.handle: Any = None
        self.identity: str | None = None
        self.schema: IndexSchema | None = None
        self._folder = -1

    def refresh(self) -> Any:
        """Find the table, again where it was replaced, and read what it was made with; returns `handle`.

        Raises `SchemaMismatchError` where it is not of this engine.
        """
        if not self.is_open():
            self._open()
        if self.handle is None:
            self.identity = self.schema = None
            return None
        with self.errors():
            columns = self.handle.schema
        metadata = columns.field("id").metadata if "id" in columns.names else None
        try:
            entry = json.loads((metadata or {})[METADATA_KEY.encode()])
            self.identity, stored = str(entry["identity"]), entry["schema"]
        except (KeyError, ValueError):
            raise SchemaMismatchError(
                f"{self.where}: its table {TABLE} was not made by this engine; name another directory"
            ) from None
        self.schema = from_json(stored, self.where)
        return self.handle

    def ensure(self, wanted: IndexSchema) -> None:
        """Create the table, or add to the one that is there what it lacks."""
        for attempt in range(SCHEMA_ATTEMPTS):
            try:
                with self.errors():
                    self._ensure(wanted)
                return
            except (ValueError, DatabaseUnavailableError):  # LanceDB's words for a race that was lost
                if attempt == SCHEMA_ATTEMPTS - 1:
                    raise

    def _ensure(self, wanted: IndexSchema) -> None:
        self.refresh()
        if self.schema is None:
            self._create(wanted)
            self.refresh()
        if self.schema is None:
            raise DatabaseUnavailableError(f"{self.where}: deleted while it was created")
        if not os.access(self.directory, os.W_OK):
            raise UsageError(f"{self.where}: not writable")
        result = merged(self.schema, wanted, self.where)
        for column in arrow.columns(result, {}):
            if column.name not in self.handle.schema.names:
                self.handle.add_columns(column)
        if result != self.schema:
            metadata = _metadata(str(self.identity), result)
            self.handle.update_field_metadata({"path": "id", "metadata": metadata})
        self.schema = result

    def _create(self, schema: IndexSchema) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFullError(f"{self.where}: the disk is full") from None
            raise UsageError(f"{self.where}: can't be created: {error.strerror}") from None
        # One after another: of two tables made at once, LanceDB lets the second take the first's place.
        with open(self.directory / ".creation", "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.refresh() is None:
                columns = arrow.columns(schema, _metadata(uuid.uuid4().hex, schema))
                self.database().create_table(TABLE, schema=columns)

    def database(self) -> Any:
        """A connection to the directory that sees at each call what other processes have committed."""
        session = lancedb.Session(
            index_cache_size_bytes=INDEX_CACHE, metadata_cache_size_bytes=METADATA_CACHE
        )
        return lancedb.connect(self.directory, session=session, read_consistency_interval=timedelta(0))

    def _open(self) -> None:
        self.close()
        path = self.directory / f"{TABLE}.lance"
        # Where there is no version, a creation was cut off by a full disk or a kill: it may be made anew.
        if not any((path / "_versions").glob("*.manifest")):
            return
        # Held open, so that its inode number can't be given to a directory that replaces it.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with self.errors():
                self.handle = self.database().open_table(TABLE)
        except BaseException:
            os.close(folder)
            raise
        self._folder = folder

    def is_open(self) -> bool:
        """Whether there is an open table, and it is still the one on the disk."""
        if self.handle is None:
            return False
        held = os.fstat(self._folder)
        try:
            found = (self.directory / f"{TABLE}.lance").stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        """Let go of the table. Safe to call twice."""
        self.handle = None
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1

    @contextmanager
    def errors(self) -> Iterator[None]:
        """LanceDB raises RuntimeError and OSError for all its troubles; only the text tells them apart."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            text = " ".join(str(error).split())
            if "No space left" in text or "os error 28" in text or "quota exceeded" in text:
                raise DiskFullError(f"{self.where}: the disk is full") from error
            if "Permission denied" in text or "Read-only file system" in text:
                raise UsageError(f"{self.where}: not writable") from error
            if missing := re.search(r"Not found: \S*\.lance/data/([^\s,]+)", text):
                raise DatabaseUnavailableError(
                    f"{self.where}: the file {missing[1]} of its table is missing; where it is lost, delete"
                    " the directory and run python -m engine.verify --repair, which makes the index anew"
                ) from error
            raise DatabaseUnavailableError(f"{self.where}: {text[:300]}") from error


def _metadata(identity: str, schema: IndexSchema) -> dict[str, str]:
    return {METADATA_KEY: json.dumps({"identity": identity, "schema": to_json(schema)})}


def id_conditions(ids: Sequence[str]) -> Iterator[str]:
    """SQL conditions that together mean these ids."""
    for start in range(0, len(ids), IDS_PER_FILTER):
        quoted = map(quote, ids[start : start + IDS_PER_FILTER])
        yield f"id IN ({', '.join(quoted)})"


def filter_condition(filters: Filters) -> str:
    """The SQL condition of a search; empty where everything passes."""
    conditions = []
    if filters.source_prefix:
        conditions.append(f"starts_with(source, {quote(filters.source_prefix)})")
    if filters.media_type is not None:
        conditions.append(f"media_type = {quote(filters.media_type)}")
    return " AND ".join(conditions)


def quote(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
