"""Several writers for one LanceDB table: each writes to a table of its own until `gather` merges them.

LanceDB allows one writer. A task of a fleet therefore appends to `DIR/staging/IDENTITY/TASK/`, a directory of
the same form beside the index, and lists in the table `deleted` there the ids that it would delete.
`IDENTITY` is that of the index: parts for another index are not merged. `gather` deletes these ids, appends
the records that the index lacks, then removes the directory. After a kill the next call repeats what is not
finished.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapters.base import NO_FILTERS, Adapter, Filters
from adapters.lancedb import DATABASE
from adapters.lancedb.adapter import LanceAdapter
from adapters.lancedb.table import IDS_PER_FILTER, id_conditions
from engine.errors import IndexLostError
from engine.records import SCHEMA_VERSION, Hit, IndexSchema, Kind, Record, Vector

#: The directory of the parts inside that of the index, and the table of ids to delete in each part.
STAGING, DELETED = "staging", "deleted"

#: The suffix of a merged part until its files are deleted.
TAKEN = ".taken"

#: Records merged at once.
GATHER_ROWS = 4096


class StagedLance(Adapter):
    """The part that one task writes, on top of the index as it was gathered last.

    `count` and `scan` cover both; `search` covers what was gathered.
    """

    scheme = "lancedb"
    capabilities = replace(DATABASE.capabilities, single_writer=False)
    bulk_age_s = LanceAdapter.bulk_age_s

    def __init__(self, index: LanceAdapter, task: str) -> None:
        self._directory = index.table.directory
        self._task = task
        self._index = index
        self._part: LanceAdapter | None = None
        self._deleted: Any = None
        self._written_for: str | None = None

    def identity(self) -> str | None:
        return self._index.identity()

    def schema(self) -> IndexSchema | None:
        return self._index.schema()

    def ensure_schema(self, schema: IndexSchema) -> None:
        self._index.ensure_schema(schema)
        self._opened().ensure_schema(schema)

    def prepare(self) -> None:
        """Raises `UsageError` where another process writes the same part."""
        self._opened().prepare()

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        # Records that the index holds already are found by `gather`.
        return self._writable().write(records, maybe_present)

    def delete(self, ids: Sequence[str]) -> int:
        part = self._writable()
        listed = self._listed(ids)
        gathered = [one for one in self._index.present(ids) if one not in listed]
        if gathered:
            with part.table.errors():
                table = self._deleted_table(part) or part.table.database().create_table(
                    DELETED, schema=pa.schema([pa.field("id", pa.string())]), exist_ok=True
                )
                self._deleted = table
                table.add(pa.table({"id": gathered}))
        return part.delete(ids) + len(gathered)

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        part = self._opened()
        yield from part.scan(with_embeddings, source)
        batch: list[dict[str, object]] = []
        for row in self._index.scan(with_embeddings, source):
            batch.append(row)
            if len(batch) == IDS_PER_FILTER:
                yield from self._still_there(batch, part)
                batch = []
        yield from self._still_there(batch, part)

    def _still_there(self, rows: list[dict[str, object]], part: LanceAdapter) -> Iterator[dict[str, object]]:
        ids = [str(row["id"]) for row in rows]
        hidden = self._listed(ids) | set(part.present(ids))
        yield from (row for row in rows if row["id"] not in hidden)

    def count(self) -> int:
        part = self._opened()
        table = self._deleted_table(part)
        gone = 0 if table is None else int(table.count_rows())
        return self._index.count() + part.count() - gone

    def search(self, kind: Kind, vector: Vector, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        return self._index.search(kind, vector, k, filters)

    def close(self) -> None:
        self._index.close()
        if self._part is not None:
            self._part.close()
        self._part = self._deleted = None

    def _opened(self) -> LanceAdapter:
        """The part of this task for the present index."""
        identity = self._index.identity()
        if self._part is None or identity != self._written_for:
            if self._part is not None:
                self._part.close()
            self._written_for, self._deleted = identity, None
            self._part = LanceAdapter(self._directory / STAGING / (identity or "none") / self._task)
        return self._part

    def _writable(self) -> LanceAdapter:
        """Raises `IndexLostError` where the index was deleted or replaced since it was opened."""
        if self._part is None:
            self._opened()
        if self._part is None or self._written_for is None:
            raise IndexLostError(f"lancedb://{self._directory}: no index there to write to")
        if self._index.identity() != self._written_for:
            raise IndexLostError(
                f"lancedb://{self._directory}: the index was deleted or replaced during the run"
            )
        return self._part

    def _deleted_table(self, part: LanceAdapter) -> Any:
        if self._deleted is None:
            self._deleted = _deleted_of(part)
        return self._deleted

    def _listed(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that the index still holds, and `gather` will delete."""
        part = self._opened()
        table = self._deleted_table(part)
        found: set[str] = set()
        if table is not None:
            with part.table.errors():
                for condition in id_conditions(ids):
                    found.update(_ids(table.search().where(condition).limit(None).to_arrow()))
        return found


def gather(index: LanceAdapter, directory: Path) -> int:
    """Merge every part into the index, whose only writer is the caller; returns the number of new records."""
    staging = directory / STAGING
    # First what a killed call left: a later task may have made a part of the same name again.
    for path in staging.glob(f"*/*{TAKEN}"):
        shutil.rmtree(path)
    parts = sorted(staging.glob("*/*"))
    if not parts:
        return 0
    identity = index.identity()
    new = 0
    with closing(_Known(directory)) as known:
        known.add_all(index)
        for path in parts:
            if path.parent.name == identity:
                new += _take_in(index, path, known)
    for folder in staging.iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return new


def _take_in(index: LanceAdapter, path: Path, known: _Known) -> int:
    new = 0
    with closing(LanceAdapter(path)) as part:
        # Locks the part: records that another process appended from now on would be lost with it.
        part.prepare()
        schema = part.schema()
        if schema is not None:
            # A part of an older engine lacks columns only.
            index.ensure_schema(replace(schema, version=SCHEMA_VERSION))
            # Deletions first: a file may have changed back, and its records are then written again.
            deleted = _deleted_of(part)
            if deleted is not None:
                with part.table.errors():
                    for batch in deleted.search().limit(None).to_batches(IDS_PER_FILTER):
                        ids = _ids(batch)
                        index.delete(ids)
                        known.remove(ids)
            for batch in part.batches(GATHER_ROWS):
                table = pa.Table.from_batches([batch])
                missing = pa.array([known.add(one) for one in _ids(batch)])
                new += index.append(table.filter(missing))
    taken = path.with_name(path.name + TAKEN)
    os.replace(path, taken)
    shutil.rmtree(taken)
    return new


class _Known:
    """The ids of an index in a temporary file: memory stays constant, and the index is read once."""

    def __init__(self, directory: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".gather-", dir=directory)
        os.close(descriptor)
        self._db = sqlite3.connect(name, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("CREATE TABLE known (id TEXT PRIMARY KEY) WITHOUT ROWID")
        os.unlink(name)
        self._db.execute("BEGIN")

    def add_all(self, index: LanceAdapter) -> None:
        for batch in index.batches(GATHER_ROWS, ["id"]):
            self._db.executemany("INSERT OR IGNORE INTO known VALUES (?)", [(one,) for one in _ids(batch)])

    def add(self, one: str) -> bool:
        """Whether it was not known."""
        return self._db.execute("INSERT OR IGNORE INTO known VALUES (?)", (one,)).rowcount == 1

    def remove(self, ids: Sequence[str]) -> None:
        self._db.executemany("DELETE FROM known WHERE id = ?", [(one,) for one in ids])

    def close(self) -> None:
        self._db.close()


def _deleted_of(part: LanceAdapter) -> Any:
    """The table of ids to delete in a part; None where there is none."""
    if part.schema() is None:
        return None
    with part.table.errors():
        names = part.table.database().list_tables().tables
        return part.table.database().open_table(DELETED) if DELETED in names else None


def _ids(rows: Any) -> list[str]:
    ids: list[str] = rows.column("id").to_pylist()
    return ids
