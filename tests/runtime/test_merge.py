"""What the last job of a fleet does with many files, many tasks, and a disk that is full."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapters
from adapters import memory
from engine import merge as command
from engine.errors import DatabaseUnavailableError, UsageError
from engine.fleet.finish import Merged, merge
from engine.runtime.ledger.items import FailureRow
from engine.runtime.ledger.store import Ledger
from engine.runtime.limits.lock import RunLock
from engine.runtime.limits.stop import RunStoppedError
from tests.adapters.contract import stored, write
from tests.records import make_schema
from tests.repair.test_compare import book, sound

URL = "memory://merge"

#: Tasks of each fleet here.
TASKS = 2


@pytest.fixture(autouse=True)
def _index() -> Iterator[None]:
    adapters.connect(URL).ensure_schema(make_schema())
    yield
    memory.drop("merge")


def done(run_dir: Path, tasks: int, files: int = 0, **config: object) -> None:
    """Tasks that have come to their ends in their second runs, having met half of these files in it."""
    index = adapters.connect(URL)
    for number in range(tasks):
        folder = run_dir / "shards" / f"{number}-of-{tasks}"
        folder.mkdir(parents=True)
        ledger = Ledger(folder)
        for file in range(files):
            records = sound(1, f"{run_dir}/files/{number}-{file}", seed=100 * number + file)
            write(index, records)
            row = book(ledger, records)
            ledger.items.describe(row, "text", "text/plain", "tokens-256-0 " + "d" * 64, "")
            ledger.items.finish(row, "indexed")
            ledger.items.mark_seen(row, 1 + file % 2)
        told = {"fleet": True, "adapter": URL, "inputs": [f"{run_dir}/files"], **config}
        for name, value in {"adapter": URL, "config": json.dumps(told), "run": "2", "listed": "2"}.items():
            ledger.set(name, value)
        ledger.close()
        (folder / "summary.json").write_text(json.dumps({"exit_code": 0, "run": 2}))


def test_a_ledger_is_read_no_oftener_where_more_files_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, before = 0, Ledger.__init__

    def counted(ledger: Ledger, run_dir: Path) -> None:
        nonlocal count
        count += 1
        before(ledger, run_dir)

    opened: list[int] = []
    monkeypatch.setattr(Ledger, "__init__", counted)
    for files in (2, 40):
        folder = tmp_path / str(files)
        (folder / "files").mkdir(parents=True)
        done(folder, TASKS, files)
        count = 0
        merged = merge(folder, URL, prune=True)
        opened.append(count)
        assert (merged.summary.exit_code, merged.summary.files.removed) == (0, TASKS * files // 2)
        assert len(stored(adapters.connect(URL))) == TASKS * files // 2
        memory.drop("merge")
        adapters.connect(URL).ensure_schema(make_schema())
    assert opened[0] == opened[1]


def test_tasks_that_are_at_work_are_not_held_up_and_those_that_were_killed_at_once_are_named(
    tmp_path: Path,
) -> None:
    done(tmp_path, 3)
    shards = tmp_path / "shards"
    (shards / "0-of-3" / "ledger.sqlite").write_bytes(b"")
    assert merge(tmp_path, URL, prune=False).summary.not_done == ("shards/0-of-3: never began",)
    assert json.loads((tmp_path / "summary.json").read_text())["not_done"] == ["shards/0-of-3: never began"]
    ledger = Ledger(shards / "1-of-3")
    ledger.set("listed", "3")  # a change that is not committed yet
    lock = RunLock(shards / "1-of-3")
    with pytest.raises(UsageError, match="1-of-3: locked by"):
        merge(tmp_path, URL, prune=False)
    lock.release()
    ledger.close()
    (shards / "2-of-3" / "ledger.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match=r"2-of-3/ledger\.sqlite: not a usable ledger"):
        merge(tmp_path, URL, prune=False)


def test_a_failure_of_a_file_that_has_left_the_corpus_is_told_no_more(tmp_path: Path) -> None:
    done(tmp_path, 1, 2)
    ledger = Ledger(tmp_path / "shards" / "0-of-1")
    for file in (0, 1):  # the first of them was not met in the last run
        row = ledger.items.find(f"{tmp_path}/files/0-{file}")
        assert row is not None
        ledger.items.fail(FailureRow(row.id, -1, None, "parse", "damaged", f"file {file}"))
    ledger.commit()
    assert merge(tmp_path, URL, prune=False).summary.exit_code == 3
    lines = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["file 1"]
    ledger.set("listed", "1")
    ledger.close()
    merge(tmp_path, URL, prune=False)
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 2


def test_there_may_be_more_tasks_than_files_that_a_process_opens_by_default(tmp_path: Path) -> None:
    done(tmp_path, 40)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        assert merge(tmp_path, URL, prune=False).summary.exit_code == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(
    "error",
    [sqlite3.OperationalError("database or disk is full"), RunStoppedError("ledger.sqlite: disk I/O error")],
)
def test_a_disk_that_is_full_leaves_a_merge_to_be_run_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("engine.fleet.finish.merge", fails)
    assert command.main(["--run-dir", str(tmp_path), "--adapter", URL]) == 75
    assert capsys.readouterr().err.endswith(f"{error}; run the same command again to continue\n")


def test_a_database_that_is_away_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done(tmp_path, 2)
    away = [DatabaseUnavailableError("connection refused")] * 2
    monkeypatch.setattr(command, "RETRY_S", 0.01)
    monkeypatch.setattr("engine.fleet.finish.merge", lambda *given: merge(*given) if not away else fail(away))
    start = ["--run-dir", str(tmp_path), "--adapter", URL]
    assert command.main(start) == 0
    told = capsys.readouterr()
    assert told.err == "engine.merge: waiting for the database: connection refused\n"
    assert "complete after" in told.out
    away.extend([DatabaseUnavailableError("connection refused")] * 10**6)
    assert command.main([*start, "--database-deadline", "0.05"]) == 75
    assert capsys.readouterr().err.endswith(
        "engine.merge: connection refused; run the same command again to continue\n"
    )


def fail(errors: list[DatabaseUnavailableError]) -> Merged:
    """Raises the last of them."""
    raise errors.pop()
