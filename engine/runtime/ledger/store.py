"""The ledger: what has been acknowledged, for every file of a run directory, in one SQLite file.

Only the supervisor opens it for writing. A row in `segments` holds the ids that the database has
acknowledged, and is complete when that is each of them; what is not is parsed again, which ids make harmless.

A file's `version` grows when its content, its chunks or its model change. The rows of older versions stay
until the newest one is acknowledged, because their records are still in the database; then the ids that the
new version doesn't share are deleted there, and the rows here.

A row in `unsettled` says that the database may hold records of the file that no segment names: an attempt at
it was sent, and has not come to its end. Where what is parsed afterwards is the same, the records are the
same; where it may be another, the file is doubtful, and swept when it has come to its end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import psutil

from engine.errors import UsageError
from engine.runtime.ledger.damage import damage_of, decoded
from engine.runtime.limits.stop import RunStoppedError

#: Version of the tables below. A ledger with another one is refused, never converted by guess.
LEDGER_VERSION = 2

#: Bytes of one packed record id.
ID_BYTES = 16

#: SQLite's codes for a disk that is full, and for one that fails (a full one can look like that, too), and
#: the bits of an error code that hold them (sqlite.org/rescode.html).
UNWRITABLE, PRIMARY_CODE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), 0xFF

#: File systems on which SQLite's write-ahead log is unsafe, because its index lives in shared memory.
NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "cifs", "smb", "gpfs", "beegfs", "ceph", "9p", "fuse", "afs")

FileState: TypeAlias = Literal["pending", "indexed", "partial", "skipped", "failed", "removed"]

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, path BLOB NOT NULL, size INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL, kind TEXT, media_type TEXT, generation TEXT NOT NULL DEFAULT '',
  content_hash TEXT, version INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'pending',
  rule TEXT, attempts INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL);
CREATE INDEX files_seen ON files (seen);
CREATE INDEX files_state ON files (state);
CREATE TABLE segments (
  file INTEGER NOT NULL, version INTEGER NOT NULL, ordinal INTEGER NOT NULL, after INTEGER NOT NULL,
  page INTEGER, checkpoint TEXT NOT NULL, ids BLOB NOT NULL, complete INTEGER NOT NULL,
  PRIMARY KEY (file, version, ordinal)) WITHOUT ROWID;
CREATE TABLE failures (
  file INTEGER NOT NULL, ordinal INTEGER NOT NULL, page INTEGER, stage TEXT NOT NULL,
  error_type TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (file, ordinal)) WITHOUT ROWID;
CREATE TABLE replaced (file INTEGER PRIMARY KEY, version INTEGER NOT NULL);
CREATE TABLE unsettled (file INTEGER PRIMARY KEY, doubt INTEGER NOT NULL);
"""

#: What `unsettled` says of a file: the attempts were at the version that the ledger knows; or some were at
#: another one, or with other chunks or another model; or it is to be swept, being at its end.
OPEN, DOUBTFUL, SWEEP = 0, 1, 2


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as the ledger knows it; `attempts` counts the dispatches of this version."""

    id: int
    source: str
    path: str
    size: int
    mtime_ns: int
    kind: str | None
    media_type: str | None
    generation: str
    content_hash: str | None
    version: int
    state: FileState
    rule: str | None
    attempts: int
    seen: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A segment that the database has answered; `ids` packs those acknowledged, 16 bytes each."""

    file: int
    version: int
    ordinal: int
    after: int
    page: int | None
    checkpoint: str
    ids: bytes
    complete: bool


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One line of `failures.jsonl`. `ordinal` -1 stands for the whole file."""

    file: int
    ordinal: int
    page: int | None
    stage: str
    error_type: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a version has come: every segment up to `last` is acknowledged, and those in `done` after it.

    `checkpoint` is where parsing goes on after `last` (None: at the start of the file, `last` is then -1).
    """

    last: int
    checkpoint: str | None
    done: tuple[int, ...]
    chunks: int


@dataclass(frozen=True, slots=True)
class Held:
    """The packed ids of a segment; `wanted`: the database must hold them, else they are to be deleted."""

    file: int
    ids: bytes
    wanted: bool


@dataclass(frozen=True, slots=True)
class Booked:
    """Records that the ledger has booked as acknowledged, and how many the database must hold at least.

    The second counts no record that is to be deleted, and of a file with several versions only the largest,
    because versions may share records.
    """

    records: int
    least: int


#: What the keys begin with under which the names of generations are remembered.
_GENERATION = "generation "

#: Whether the database must hold a segment's records: they are not of a version that was replaced.
_WANTED = "(replaced.version IS NULL OR segments.version >= replaced.version)"

_FILE = (
    "id, source, path, size, mtime_ns, kind, media_type, generation, content_hash, version, state, rule,"
    " attempts, seen"
)


class Ledger:
    """Open or make the ledger in a run directory. Nothing is durable before `commit`.

    Raises `UsageError` for a ledger of another version, one that is damaged, or a file that is none, and
    `RunStoppedError` where it can't be written now.
    """

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / "ledger.sqlite"
        #: Generations that are remembered already.
        self._remembered: set[str] = set()
        self._db = sqlite3.connect(path, isolation_level=None)
        # Damaged text is for `damage_of` to find, also where it is quoted in a message of SQLite's own.
        self._db.text_factory = decoded
        try:
            self._db.execute(f"PRAGMA journal_mode = {'TRUNCATE' if _on_network(run_dir) else 'WAL'}")
            # A commit survives a power cut: the database must never hold records that this knows nothing of.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA temp_store = FILE")
            self._db.execute("PRAGMA cache_size = -2048")
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                version = f"INSERT INTO meta VALUES ('version', '{LEDGER_VERSION}');"
                self._db.executescript("BEGIN;" + _TABLES + version + "COMMIT;")
            found = self.get("version")
            if found == str(LEDGER_VERSION) and (damage := damage_of(self._db, _TABLES)):
                raise sqlite3.DatabaseError(damage)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            self._db.close()
            if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in UNWRITABLE:
                raise RunStoppedError(f"{path}: {error}") from None
            raise UsageError(f"{path}: not a usable ledger ({error}); name another --run-dir") from None
        if found != str(LEDGER_VERSION):
            self._db.close()
            raise UsageError(
                f"{path}: ledger version {found}, this engine reads {LEDGER_VERSION}; name another --run-dir"
            )
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """Make everything so far durable."""
        # A disk that was full has rolled it back and was told of: there is nothing to commit then.
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        else:
            self._remembered.clear()
        self._db.execute("BEGIN")

    def roll_back(self) -> None:
        """Forget everything since the last commit."""
        self._remembered.clear()
        self._db.execute("ROLLBACK")
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Commit and close. Safe to call twice. A disk that is full was told of by `commit`, not here."""
        with suppress(sqlite3.OperationalError, sqlite3.ProgrammingError):
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        self._db.close()

    # What a run knows of itself

    def get(self, key: str) -> str | None:
        """A value that `set` stored."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        """Store a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def next_run(self) -> int:
        """Count this invocation; its number marks the files that it sees."""
        number = int(self.get("run") or 0) + 1
        self.set("run", str(number))
        return number

    # Files

    def find(self, source: str) -> FileRow | None:
        """The file of that source, if it was ever seen."""
        return self._file("source = ?", source)

    def file(self, file: int) -> FileRow:
        """The file with that number. Raises `KeyError`."""
        row = self._file("id = ?", file)
        if row is None:
            raise KeyError(file)
        return row

    def _file(self, where: str, value: object) -> FileRow | None:
        row = self._db.execute(f"SELECT {_FILE} FROM files WHERE {where}", (value,)).fetchone()
        return None if row is None else FileRow(row[0], row[1], os.fsdecode(row[2]), *row[3:])

    def add(self, source: str, path: str, size: int, mtime_ns: int, run: int) -> FileRow:
        """A file that was never seen before."""
        made = self._db.execute(
            "INSERT INTO files (source, path, size, mtime_ns, seen) VALUES (?, ?, ?, ?, ?)",
            (source, os.fsencode(path), size, mtime_ns, run),
        )
        # With the table's defaults.
        return FileRow(
            id=made.lastrowid or 0,
            source=source,
            path=path,
            size=size,
            mtime_ns=mtime_ns,
            kind=None,
            media_type=None,
            generation="",
            content_hash=None,
            version=0,
            state="pending",
            rule=None,
            attempts=0,
            seen=run,
        )

    def mark_seen(self, file: int, run: int) -> None:
        """This invocation met the file."""
        self._db.execute("UPDATE files SET seen = ? WHERE id = ?", (run, file))

    def touch(self, file: int, size: int, mtime_ns: int) -> None:
        """The file's times changed, its content did not."""
        self._db.execute("UPDATE files SET size = ?, mtime_ns = ? WHERE id = ?", (size, mtime_ns, file))

    def start_version(self, file: int, size: int, mtime_ns: int) -> None:
        """The file's content, chunks or model changed: what follows belongs to a new version of it."""
        self._db.execute(
            "UPDATE files SET version = version + 1, size = ?, mtime_ns = ?, generation = '', kind = NULL,"
            " media_type = NULL, content_hash = NULL, rule = NULL, attempts = 0, state = 'pending'"
            " WHERE id = ?",
            (size, mtime_ns, file),
        )
        self._db.execute("DELETE FROM failures WHERE file = ?", (file,))

    def start_attempt(self, file: int) -> None:
        """The file is about to be parsed; commit before its records can reach the database."""
        self._db.execute("UPDATE files SET attempts = attempts + 1, state = 'pending' WHERE id = ?", (file,))

    def describe(self, file: int, kind: str, media_type: str, generation: str, content_hash: str) -> None:
        """What parsing found the file to be."""
        self._db.execute(
            "UPDATE files SET kind = ?, media_type = ?, generation = ?, content_hash = ? WHERE id = ?",
            (kind, media_type, generation, content_hash, file),
        )
        if generation:
            self._remember(generation)

    def generations(self) -> list[str]:
        """The name of every generation of which there may be records."""
        names = self._db.execute("SELECT key FROM meta WHERE key GLOB ?", (_GENERATION + "*",))
        return [key.removeprefix(_GENERATION) for (key,) in names]

    def adopt_plan(self, kind: str, generation: str) -> None:
        """What is parsed from now on becomes records of this generation; commit before any can be written.

        Attempts that had not come to their end when it was another are doubtful.
        """
        key = f"plan {kind}"
        if self.get(key) not in (None, generation):
            self._db.execute("UPDATE unsettled SET doubt = ? WHERE doubt = ?", (DOUBTFUL, OPEN))
        self.set(key, generation)
        self._remember(generation)

    def _remember(self, generation: str) -> None:
        # Records of a generation may outlive it: ids are only to be checked by who knows its name.
        if generation not in self._remembered:
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, '')", (_GENERATION + generation,))
            self._remembered.add(generation)

    def finish(self, file: int, state: FileState, rule: str | None = None) -> None:
        """The file has come to its end in this state."""
        self._db.execute("UPDATE files SET state = ?, rule = ? WHERE id = ?", (state, rule, file))

    def unseen(self, run: int, after: int) -> FileRow | None:
        """The next file, by number, that this invocation didn't meet."""
        row = self._db.execute(
            "SELECT id FROM files WHERE seen < ? AND id > ? ORDER BY id LIMIT 1", (run, after)
        ).fetchone()
        return None if row is None else self.file(row[0])

    # Segments and records

    def acknowledge(self, segments: Sequence[Acknowledged]) -> None:
        """The database has answered for these segments."""
        self._db.executemany(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (s.file, s.version, s.ordinal, s.after, s.page, s.checkpoint, s.ids, s.complete)
                for s in segments
            ],
        )

    def progress(self, file: int, version: int) -> Progress:
        """Where a version's parsing can go on: the chain of acknowledged segments from the file's start."""
        last, checkpoint, chunks = -1, None, 0
        done: list[int] = []
        rows = self._db.execute(
            "SELECT ordinal, after, checkpoint, length(ids), complete FROM segments"
            " WHERE file = ? AND version = ? ORDER BY ordinal",
            (file, version),
        )
        for ordinal, after, token, size, complete in rows:
            chunks += size // ID_BYTES
            if not complete:
                continue
            if not done and after == last:
                last, checkpoint = ordinal, token
            else:
                done.append(ordinal)
        return Progress(last, checkpoint, tuple(done), chunks)

    def has_records(self, file: int | None = None) -> bool:
        """Whether any record (of this file) is in the database."""
        where = "" if file is None else f"WHERE file = {int(file)}"
        return self._db.execute(f"SELECT 1 FROM segments {where} LIMIT 1").fetchone() is not None

    def remove(self, file: int) -> None:
        """The file left the corpus: it is forgotten when its records are deleted."""
        self._db.execute("UPDATE files SET state = 'removed' WHERE id = ?", (file,))
        self.replace_all(file)
        self.sweep(file)
        if not self.has_records(file):
            # What was replaced may be gone already, and its mark not: another file may get this number.
            self._db.execute("DELETE FROM replaced WHERE file = ?", (file,))
        self._forget_removed(file)

    def _forget_removed(self, file: int) -> None:
        nothing_left = " AND ".join(
            f"NOT EXISTS (SELECT 1 FROM {table} WHERE file = files.id)" for table in ("replaced", "unsettled")
        )
        self._db.execute(f"DELETE FROM files WHERE id = ? AND state = 'removed' AND {nothing_left}", (file,))

    def replace_all(self, file: int) -> None:
        """No record of the file is wanted any more, of whatever version."""
        self._db.execute("UPDATE files SET version = version + 1 WHERE id = ?", (file,))
        self._db.execute("DELETE FROM failures WHERE file = ?", (file,))
        self.replace(file)

    def replace(self, file: int) -> None:
        """The file's newest version is acknowledged: what only older ones had is to be deleted."""
        self._db.execute(
            "INSERT OR REPLACE INTO replaced SELECT file, files.version FROM segments"
            " JOIN files ON files.id = file WHERE file = ? AND segments.version < files.version LIMIT 1",
            (file,),
        )

    def next_replaced(self, after: int = 0) -> FileRow | None:
        """The next file, by number, with records of older versions that are to be deleted.

        Its `version` is the one that replaces them: another may have begun since, and may fail.
        """
        row = self._db.execute(
            "SELECT file, version FROM replaced WHERE file > ? ORDER BY file LIMIT 1", (after,)
        ).fetchone()
        return None if row is None else replace(self.file(row[0]), version=row[1])

    def stale_ids(self, file: int, version: int, slice_size: int) -> Iterator[list[str]]:
        """Ids of versions before this one that no later one shares, in slices; memory stays flat.

        One iteration at a time: they share a table.
        """
        self._gather("kept", file, version)
        stale: list[str] = []
        for ids in self._ids("version < ?", file, version):
            for record in ids:
                if not self._db.execute("SELECT 1 FROM kept WHERE id = ?", (record,)).fetchone():
                    stale.append(record.hex())
                if len(stale) >= slice_size:
                    yield stale
                    stale = []
        if stale:
            yield stale

    def _gather(self, table: str, file: int, version: int) -> None:
        """Put the ids of this version and of later ones into a temporary table."""
        self._db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._db.execute(f"DELETE FROM {table}")
        for ids in self._ids("version >= ?", file, version):
            self._db.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?)", [(i,) for i in ids])

    def _ids(self, where: str, file: int, version: int) -> Iterator[list[bytes]]:
        query = f"SELECT ids FROM segments WHERE file = ? AND {where}"
        for (packed,) in self._db.execute(query, (file, version)):
            yield unpacked(packed)

    def drop_older(self, row: FileRow) -> None:
        """What only versions before `row.version` had is deleted; a removed file is forgotten."""
        key = (row.id, row.version)
        self._db.execute("DELETE FROM segments WHERE file = ? AND version < ?", key)
        self._db.execute("DELETE FROM replaced WHERE file = ? AND version = ?", key)
        self._forget_removed(row.id)

    # Attempts that may have left records of which nothing is known

    def open_attempt(self, file: int, known: bool) -> int | None:
        """The file is about to be parsed, at the version that the ledger knows (`known`) or at another one.

        Commit before its records can reach the database. Returns how doubtful the file is by attempts that
        have not come to their end; None where there is none.
        """
        row = self._db.execute("SELECT doubt FROM unsettled WHERE file = ?", (file,)).fetchone()
        before = None if row is None else int(row[0])
        doubt = OPEN if known and before in (None, OPEN) else DOUBTFUL
        self._db.execute("INSERT OR REPLACE INTO unsettled VALUES (?, ?)", (file, doubt))
        return None if before is None else doubt

    def close_attempts(self, file: int) -> None:
        """Segments name every record of the file that is in the database."""
        self._db.execute("DELETE FROM unsettled WHERE file = ?", (file,))

    def sweep(self, file: int, least: int = OPEN) -> None:
        """The file has come to its end: what no segment names is to be deleted, if it is so doubtful."""
        self._db.execute("UPDATE unsettled SET doubt = ? WHERE file = ? AND doubt >= ?", (SWEEP, file, least))

    def next_sweep(self) -> FileRow | None:
        """The first file, by number, that is to be swept."""
        query = "SELECT file FROM unsettled WHERE doubt = ? ORDER BY file LIMIT 1"
        row = self._db.execute(query, (SWEEP,)).fetchone()
        return None if row is None else self.file(row[0])

    def begin_sweep(self, file: int) -> None:
        """From now on `unnamed` is about this file."""
        self._gather("named", file, 0)

    def unnamed(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that no segment of the file named when its sweep began."""
        known = "SELECT 1 FROM named WHERE id = ?"
        return [one for one in ids if not self._db.execute(known, (bytes.fromhex(one),)).fetchone()]

    def end_sweep(self, file: int) -> None:
        """The database holds nothing more of the file that no segment names."""
        self._db.execute("DELETE FROM unsettled WHERE file = ? AND doubt = ?", (file, SWEEP))
        self._forget_removed(file)

    def begin_again(self) -> None:
        """The index is empty: every file is as if it had never been indexed, and those that left are gone."""
        for table in ("segments", "failures", "replaced", "unsettled"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DELETE FROM files WHERE state = 'removed'")
        self._db.execute(
            "UPDATE files SET version = 0, generation = '', kind = NULL, media_type = NULL, rule = NULL,"
            " content_hash = NULL, attempts = 0, state = 'pending'"
        )

    # Comparison with the database

    def held(self) -> Iterator[Held]:
        """Every segment's ids, streamed. Change no segment meanwhile."""
        query = f"SELECT file, ids, {_WANTED} FROM segments LEFT JOIN replaced USING (file)"
        for file, packed, wanted in self._db.execute(query):
            yield Held(file, packed, bool(wanted))

    def page_of(self, file: int, record: bytes) -> int | None:
        """The page of one record of the file."""
        query = "SELECT page FROM segments WHERE file = ? AND instr(ids, ?) LIMIT 1"
        row = self._db.execute(query, (file, record)).fetchone()
        return None if row is None else row[0]

    def disown(self, file: int, gone: Callable[[list[bytes]], Set[bytes]]) -> None:
        """Some records of the file are not in the database: their segments, and so the file, are made again.

        `gone` tells which of some ids are meant. The rest of such a segment stays acknowledged.
        """
        key = "file = ? AND version = ? AND ordinal = ?"
        segments = self._db.execute(
            "SELECT version, ordinal FROM segments WHERE file = ?", (file,)
        ).fetchall()
        for version, ordinal in segments:
            place = (file, version, ordinal)
            (packed,) = self._db.execute(f"SELECT ids FROM segments WHERE {key}", place).fetchone()
            ids = unpacked(packed)
            lost = gone(ids)
            kept = b"".join(record for record in ids if record not in lost)
            if not kept:
                self._db.execute(f"DELETE FROM segments WHERE {key}", place)
            elif lost:
                self._db.execute(f"UPDATE segments SET ids = ?, complete = 0 WHERE {key}", (kept, *place))
        # At least one attempt: what is made again may be in the database by then.
        self._db.execute(
            "UPDATE files SET state = 'pending', attempts = max(attempts, 1) WHERE id = ?", (file,)
        )

    def unlistable(self) -> Iterator[str]:
        """Paths of pending files that a list with one path a line can't hold."""
        query = (
            "SELECT path FROM files WHERE state = 'pending'"
            " AND (instr(path, x'0A') OR substr(path, -1) = x'0D')"
        )
        for (path,) in self._db.execute(query):
            yield os.fsdecode(path)

    # Failures

    def fail(self, failure: FailureRow) -> None:
        """A file (ordinal -1) or a piece of it failed; the newest reason stays."""
        # A message may quote a name that is not UTF-8, which SQLite would refuse.
        message = failure.message.encode("utf-8", "backslashreplace").decode()
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)",
            (failure.file, failure.ordinal, failure.page, failure.stage, failure.error_type, message),
        )

    def clear_failures(self, file: int) -> None:
        """The file is about to be tried again, or came through."""
        self._db.execute("DELETE FROM failures WHERE file = ?", (file,))

    def failures(self, seen_since: int = 0) -> Iterator[dict[str, object]]:
        """The lines of `failures.jsonl`, streamed: files that were met in that invocation or later."""
        names = ("source", "page", "stage", "error_type", "message", "attempts")
        rows = self._db.execute(
            "SELECT source, page, stage, error_type, message, attempts FROM failures"
            " JOIN files ON files.id = failures.file WHERE seen >= ? ORDER BY files.id, ordinal",
            (seen_since,),
        )
        for row in rows:
            yield dict(zip(names, row, strict=True))

    # Totals

    def totals(self) -> dict[str, int]:
        """Files with records in the database, and those records."""
        files, size = self._db.execute(
            "SELECT count(DISTINCT file), coalesce(sum(length(ids)), 0) FROM segments"
        ).fetchone()
        return {"files": files, "records": size // ID_BYTES}

    def states(self) -> dict[str, int]:
        """How many files are in each state, without those that were removed."""
        query = "SELECT state, count(*) FROM files WHERE state <> 'removed' GROUP BY state"
        return dict(self._db.execute(query).fetchall())

    def records_by_kind(self) -> dict[str, int]:
        """Records by the kind of their file."""
        query = (
            "SELECT kind, sum(length(ids)) FROM segments JOIN files ON files.id = file"
            " WHERE kind IS NOT NULL GROUP BY kind"
        )
        return {str(kind): size // ID_BYTES for kind, size in self._db.execute(query)}

    def files(self) -> int:
        """How many files were ever met."""
        return int(self._db.execute("SELECT count(*) FROM files").fetchone()[0])

    def pending(self) -> int:
        """How many files have not come to an end."""
        return int(self._db.execute("SELECT count(*) FROM files WHERE state = 'pending'").fetchone()[0])

    def booked(self) -> Booked:
        """What is acknowledged, in one pass over the segments without a look at their ids."""
        versions = (
            f"SELECT file, sum(length(ids)) AS size, {_WANTED} AS wanted FROM segments"
            " LEFT JOIN replaced USING (file) GROUP BY file, segments.version"
        )
        files = f"SELECT sum(size) AS size, max(size * wanted) AS least FROM ({versions}) GROUP BY file"
        size, least = self._db.execute(
            f"SELECT coalesce(sum(size), 0), coalesce(sum(least), 0) FROM ({files})"
        ).fetchone()
        return Booked(size // ID_BYTES, least // ID_BYTES)

    def distinct_records(self) -> int:
        """Records that the database must hold: versions of one file that are both there share some."""
        shared = 0
        several = "SELECT file FROM segments GROUP BY file HAVING min(version) < max(version)"
        for (file,) in self._db.execute(several).fetchall():
            ids = [i for slice_ in self._ids("version >= ?", file, 0) for i in slice_]
            shared += len(ids) - len(set(ids))
        return self.totals()["records"] - shared


def unpacked(ids: bytes) -> list[bytes]:
    """Packed ids one by one."""
    return [ids[i : i + ID_BYTES] for i in range(0, len(ids), ID_BYTES)]


def _on_network(folder: Path) -> bool:
    """Whether the folder lies on a file system that several machines share."""
    real = str(folder.resolve())
    mounts = {p.mountpoint.rstrip("/") + "/": p.fstype for p in psutil.disk_partitions(all=True)}
    kind = mounts[max((m for m in mounts if f"{real}/".startswith(m)), key=len)] if "/" in mounts else ""
    return kind.startswith(NETWORK_FILE_SYSTEMS)
