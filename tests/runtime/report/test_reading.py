"""Reading a ledger leaves no trace, and neither waits for its run nor keeps it waiting."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from engine.runtime.ledger import store as module
from engine.runtime.ledger.store import Ledger
from engine.runtime.report.reading import read_only, uses_log
from tests.items import item

#: Dies with a committed file in its log.
KILLED = """
import os, signal, sys
from pathlib import Path
from engine.runtime.ledger.store import Ledger
from tests.items import item
ledger = Ledger(Path(sys.argv[1]))
ledger.items.add(item("/a"), 1)
ledger.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def files(path: Path) -> int:
    with closing(read_only(path)) as db:
        return int(db.execute("SELECT count(*) FROM items").fetchone()[0])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_ledger_at_rest_gets_no_file_beside_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.items.add(item("/a"), 1)
    ledger.close()
    assert names(tmp_path) == {"ledger.sqlite"}
    with closing(read_only(tmp_path / "ledger.sqlite")) as db:
        assert db.execute("SELECT uri FROM items").fetchall() == [("/a",)]
        assert names(tmp_path) == {"ledger.sqlite"}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM items")
    assert names(tmp_path) == {"ledger.sqlite"}


def test_a_reader_sees_what_a_living_run_has_committed_and_holds_it_up_with_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(tmp_path)) as ledger:
        ledger.items.add(item("/a"), 1)
        ledger.commit()
        before = names(tmp_path)
        ledger.items.add(item("/b"), 1)
        with closing(read_only(path)) as db:
            rows = db.execute("SELECT uri FROM items")
            assert rows.fetchone() == ("/a",)
            ledger.commit()  # while the reader is in the middle of its answer
            ledger.items.add(item("/c"), 1)
            ledger.commit()
            assert rows.fetchone() is None
        assert files(path) == 3
        assert names(tmp_path) == before


def test_what_a_killed_run_left_in_its_log_is_read(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    before = names(tmp_path)
    assert "ledger.sqlite-wal" in before
    assert files(tmp_path / "ledger.sqlite") == 1
    assert names(tmp_path) == before


def test_a_ledger_on_a_network_file_system_has_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(tmp_path).close()
    assert uses_log(tmp_path / "ledger.sqlite")
    (tmp_path / "far").mkdir()
    monkeypatch.setattr(module, "_on_network", lambda folder: True)
    Ledger(tmp_path / "far").close()
    assert not uses_log(tmp_path / "far" / "ledger.sqlite")
    assert files(tmp_path / "far" / "ledger.sqlite") == 0
