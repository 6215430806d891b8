"""The ledger: what has been acknowledged, for every item of a run directory, in one SQLite file.

Only the supervisor opens it for writing. A row in `segments` holds the ids that the database has
acknowledged, and is complete when that is each of them; what is not is parsed again, which ids make harmless.

An item's `revision` grows when its content, its chunks or its model change. The rows of older revisions stay
until the newest one is acknowledged, because their records are still in the database; then the ids that the
new revision doesn't share are deleted there, and the rows here.

A row in `unsettled` says that the database may hold records of the item that no segment names: an attempt at
it was sent, and has not come to its end. Where what is parsed afterwards is the same, the records are the
same; where it may be another, the item is doubtful, and swept when it has come to its end.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

import psutil

from engine.errors import UsageError
from engine.runtime.ledger import tables
from engine.runtime.ledger.audit import Audit
from engine.runtime.ledger.items import Items
from engine.runtime.ledger.leftovers import Doubt, Leftovers
from engine.runtime.ledger.segments import Segments
from engine.runtime.limits.stop import RunStoppedError

#: SQLite's codes for a disk that is full, and for one that fails (a full one can look like that, too), and
#: the bits of an error code that hold them (sqlite.org/rescode.html).
UNWRITABLE, PRIMARY_CODE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR), 0xFF

#: File systems on which SQLite's write-ahead log is unsafe, because its index lives in shared memory.
NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "cifs", "smb", "gpfs", "beegfs", "ceph", "9p", "fuse", "afs")

#: What the keys begin with under which the names of generations are remembered.
_GENERATION = "generation "


class Ledger:
    """Open or make the ledger in a run directory. Nothing is durable before `commit`.

    One that an older engine made is upgraded, in one transaction. Raises `UsageError` for a ledger of an
    unknown version, one that is damaged, or a file that is none, and `RunStoppedError` where it can't be
    written now.
    """

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / "ledger.sqlite"
        #: Generations that are remembered already.
        self._remembered: set[str] = set()
        db = self._db = sqlite3.connect(path, isolation_level=None)
        # Damaged text is for `damage_of` to find, also where it is quoted in a message of SQLite's own.
        db.text_factory = tables.decoded
        try:
            db.execute(f"PRAGMA journal_mode = {'TRUNCATE' if _on_network(run_dir) else 'WAL'}")
            # A commit survives a power cut: the database must never hold records that this knows nothing of.
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA temp_store = FILE")
            db.execute("PRAGMA cache_size = -2048")
            tables.make(db)
            db.execute("BEGIN")
            tables.upgrade(db)
            found = tables.version_of(db)
            if found == str(tables.LEDGER_VERSION) and (damage := tables.damage_of(db)):
                raise sqlite3.DatabaseError(damage)
            db.execute("COMMIT")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            db.close()
            if getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE in UNWRITABLE:
                raise RunStoppedError(f"{path}: {error}") from None
            raise UsageError(f"{path}: not a usable ledger ({error}); name another --run-dir") from None
        if found != str(tables.LEDGER_VERSION):
            db.close()
            raise UsageError(
                f"{path}: ledger version {found}, this engine reads {tables.LEDGER_VERSION};"
                " name another --run-dir"
            )
        self.items = Items(db, self._remember)
        self.segments = Segments(db)
        self.leftovers = Leftovers(db, self.items)
        self.audit = Audit(db)
        db.execute("BEGIN")

    def commit(self) -> None:
        """Make everything so far durable."""
        # A disk that was full has rolled it back and was reported: there is nothing to commit then.
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
        """Commit and close. Safe to call twice. A disk that is full was reported by `commit`, not here."""
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
        """Count this invocation; its number marks the items that it sees."""
        number = int(self.get("run") or 0) + 1
        self.set("run", str(number))
        return number

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
            self._db.execute("UPDATE unsettled SET doubt = ? WHERE doubt = ?", (Doubt.OTHER, Doubt.SAME))
        self.set(key, generation)
        self._remember(generation)

    def _remember(self, generation: str) -> None:
        # Records of a generation may outlive it: ids are only to be checked by who knows its name.
        if generation not in self._remembered:
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, '')", (_GENERATION + generation,))
            self._remembered.add(generation)

    def begin_again(self) -> None:
        """The index is empty: every item is as if it had never been indexed, and those that left are gone."""
        for table in ("segments", "failures", "replaced", "unsettled"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DELETE FROM items WHERE state = 'removed'")
        self._db.execute(
            "UPDATE items SET revision = 0, generation = '', kind = NULL, media_type = NULL, rule = NULL,"
            " content_hash = NULL, attempts = 0, state = 'pending'"
        )


def _on_network(folder: Path) -> bool:
    """Whether the folder lies on a file system that several machines share."""
    real = str(folder.resolve())
    mounts = {p.mountpoint.rstrip("/") + "/": p.fstype for p in psutil.disk_partitions(all=True)}
    kind = mounts[max((m for m in mounts if f"{real}/".startswith(m)), key=len)] if "/" in mounts else ""
    return kind.startswith(NETWORK_FILE_SYSTEMS)
