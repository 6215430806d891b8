"""A ledger of version 2 is upgraded at open, in one step, and knows all that it knew."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from engine.errors import UsageError
from engine.runtime.ledger import store as module
from engine.runtime.ledger import tables
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.leftovers import Doubt
from engine.runtime.ledger.store import Ledger
from engine.runtime.report.reading import read_only
from engine.sources.base import Item
from tests.items import item

#: Made by the engine that wrote version 2: a run over ten items with a stand-in model, and then what a killed
#: run leaves behind: a change whose old records are still to go, a partial item, and one on its way.
MADE_BY_VERSION_2 = Path(__file__).with_name("ledger_v2.sql")

CHUNKER = "tokens=256,overlap=0,v1"


def make(folder: Path, more: str = "") -> Path:
    """The ledger of version 2 as it was left."""
    path = folder / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(MADE_BY_VERSION_2.read_text() + more)
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    make(tmp_path)
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def is_whole(path: Path) -> str:
    """The version of a ledger all of whose tables are those of its version."""
    with closing(sqlite3.connect(path)) as db:
        version = tables.version_of(db)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if version == "2":
            assert {"files", "segments", "failures", "replaced", "unsettled", "meta"} == names
            assert db.execute("SELECT count(*), count(DISTINCT path) FROM files").fetchone()[0] >= 11
            db.execute("SELECT file, version FROM segments")
            db.execute("SELECT file FROM unsettled")
        else:
            assert version == "3"
            assert tables.damage_of(db) is None
            assert db.execute("SELECT count(*) FROM items WHERE version = ''").fetchone() == (0,)
        return version


def test_every_item_is_there_with_its_location_and_a_version_made_of_its_time(ledger: Ledger) -> None:
    row = ledger.items.find("/tmp/corpus/text 0.txt")
    assert row is not None
    assert row.item == item("/tmp/corpus/text 0.txt", 2128, 1700000000617283945)
    assert (row.state, row.revision, row.attempts, row.seen) == ("indexed", 0, 1, 1)
    strange = ledger.items.find("/tmp/corpus/caf%E9.txt")
    assert strange is not None
    assert strange.location == "/tmp/corpus/caf\udce9.txt"
    old = ledger.items.find("/tmp/corpus/deep/page.html")
    assert old is not None
    assert old.item == item("/tmp/corpus/deep/page.html", 82, -5)
    assert (ledger.items.count(), ledger.items.pending()) == (11, 1)


def test_what_is_acknowledged_failed_or_still_to_be_deleted_stays_so(ledger: Ledger) -> None:
    assert ledger.audit.totals() == {"files": 7, "records": 18}
    assert ledger.audit.records_by_kind() == {"text": 17, "image": 1}
    changed = ledger.leftovers.next_replaced()
    assert changed is not None
    assert (changed.uri, changed.revision) == ("/tmp/corpus/text 1.txt", 1)
    assert [len(part) for part in ledger.leftovers.stale_ids(changed.id, 1, 100)] == [4]
    swept = ledger.leftovers.next_sweep()
    assert swept is not None
    assert swept.uri == "/tmp/corpus/text 1.txt"
    partial = ledger.items.find("/tmp/corpus/deep/book.pdf")
    assert partial is not None
    progress = ledger.segments.progress(partial.id, partial.revision)
    assert (progress.last, progress.checkpoint, progress.done) == (0, '["1", 0, 0]', ())
    assert ledger.leftovers.open_attempt(partial.id, known=True) == Doubt.SAME
    lines = [(line["source"], line["document"], line["page"]) for line in ledger.items.failures()]
    assert lines == [("/tmp/corpus/broken.pdf", None, None), ("/tmp/corpus/deep/book.pdf", None, 2)]
    assert len(ledger.generations()) == 2


def test_the_same_corpus_is_unchanged_and_what_had_not_ended_is_tried_again(tmp_path: Path) -> None:
    path = make(tmp_path)
    corpus = [
        Item(uri, size, str(mtime_ns), mtime_ns, location.decode("utf-8", "surrogateescape"))
        for uri, location, size, mtime_ns in rows(path, "SELECT source, path, size, mtime_ns FROM files")
    ]
    with closing(Ledger(tmp_path)) as ledger:
        plans = {kind: ledger.get(f"plan {kind}") for kind in ("text", "image")}
        assert plans["text"] is not None
        assert plans["text"].startswith(CHUNKER)
        skipped = io.StringIO()
        accounts = Accounts(ledger, ledger.next_run(), plans.get, skipped)
        again = [found.uri for found in corpus if accounts.admit(found) is not None]
        counts = accounts.counts
    assert again == [f"/tmp/corpus/{name}" for name in ("broken.pdf", "deep/book.pdf", "deep/new.txt")]
    assert (counts.discovered, counts.unchanged, counts.skipped) == (11, 6, 2)
    assert [json.loads(line)["rule"] for line in skipped.getvalue().splitlines()] == ["empty", "unknown-type"]


def test_a_reader_sees_an_older_ledger_as_one_of_today_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = path.read_bytes()
    query = (
        "SELECT uri, version, items.revision, state, failures.page, document FROM failures"
        " JOIN items ON items.id = item JOIN segments USING (item) WHERE complete"
    )
    with closing(read_only(path)) as db:
        seen = db.execute(query).fetchall()
    assert path.read_bytes() == before
    with closing(Ledger(tmp_path)):
        pass
    assert seen == rows(path, query)
    assert seen == [("/tmp/corpus/deep/book.pdf", "1700000200000000001", 0, "partial", 2, None)]


@pytest.mark.parametrize("network", [False, True], ids=["write-ahead log", "rollback journal"])
def test_an_upgrade_that_is_killed_at_any_step_leaves_one_version_or_the_other(
    tmp_path: Path, network: bool
) -> None:
    """With more rows than SQLite keeps in memory, so that pages are written before the commit."""
    many = (
        "WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO files (id, source, path, size, mtime_ns, seen)"
        " SELECT i, '/many/' || i, CAST('/many/' || i AS BLOB), i, i, 1 FROM n;"
    )
    place = tmp_path / "run"
    place.mkdir()
    path = make(place, many)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {'TRUNCATE' if network else 'WAL'}")
    copies: list[Path] = []

    def copy(statement: str) -> None:
        """What lies on the disk when this statement begins is what a kill there would leave."""
        folder = tmp_path / str(len(copies))
        folder.mkdir()
        for name in ("", "-wal", "-journal"):
            if (file := path.with_name(path.name + name)).exists():
                shutil.copy(file, folder)
        copies.append(folder / path.name)

    connect = sqlite3.connect

    def traced(name: Path, **options: object) -> sqlite3.Connection:
        db = connect(name, **options)  # type: ignore[call-overload]
        db.set_trace_callback(copy)
        assert isinstance(db, sqlite3.Connection)
        return db

    with (
        mock.patch.object(module, "_on_network", lambda folder: network),
        mock.patch.object(sqlite3, "connect", traced),
    ):
        Ledger(place).close()
    versions = [is_whole(each) for each in copies]
    assert len(copies) > 20
    assert versions == sorted(versions)
    assert (versions[0], versions[-1], is_whole(path)) == ("2", "3", "3")
    with closing(Ledger(copies[0].parent)) as ledger:
        assert ledger.items.count() == 20_000 - 99 + 11


def test_a_damaged_ledger_of_version_2_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = make(tmp_path, "UPDATE files SET size = 'many' WHERE id = 1;")
    with pytest.raises(UsageError, match="a value of the wrong type in items"):
        Ledger(tmp_path)
    assert is_whole(path) == "2"
    assert rows(path, "SELECT size FROM files WHERE id = 1") == [("many",)]
