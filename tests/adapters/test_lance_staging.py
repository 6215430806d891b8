from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

import adapters
from adapters.base import Adapter, AdapterOptions
from adapters.lancedb.staging import StagedLance
from engine.errors import UsageError
from tests.adapters.contract import adapters_closed, stored, write
from tests.records import make_records, make_schema


def task(folder: Path, name: str) -> closing[Adapter]:
    """What the task of that name writes to."""
    return closing(adapters.connect(f"lancedb://{folder}", AdapterOptions(task=name)))


def begun(folder: Path, name: str) -> Adapter:
    adapter = adapters.connect(f"lancedb://{folder}", AdapterOptions(task=name))
    adapter.ensure_schema(make_schema())
    adapter.prepare()
    return adapter


def test_what_tasks_write_side_by_side_is_one_index_when_it_is_gathered(tmp_path: Path) -> None:
    records = make_records(12)
    tasks = [begun(tmp_path / "db", f"{number}-of-3") for number in range(3)]
    assert len({one.identity() for one in tasks}) == 1
    for number, one in enumerate(tasks):
        write(one, records[4 * number : 4 * number + 4])
        write(one, records[4 * number : 4 * number + 4], maybe_present=True)
        assert one.count() == 4
    assert tasks[0].count() == 4
    for one in tasks:
        one.close()
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        assert index.count() == 0
        assert index.gather() == 12
        assert set(stored(index)) == {record.id for record in records}
        assert index.gather() == 0
    assert not any((tmp_path / "db" / "staging").iterdir())


def test_what_two_tasks_wrote_or_the_index_holds_is_taken_in_once(tmp_path: Path) -> None:
    records = make_records(6)
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.ensure_schema(make_schema())
        index.prepare()
        write(index, records[:2])
    for name in ("0-of-2", "1-of-2"):
        with closing(begun(tmp_path / "db", name)) as one:
            write(one, records, maybe_present=True)
            assert set(stored(one)) == {record.id for record in records}
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        assert index.gather() == 4
        assert set(stored(index)) == {record.id for record in records}


def test_a_task_deletes_what_was_gathered_and_may_write_it_again(tmp_path: Path) -> None:
    records = make_records(6)
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.ensure_schema(make_schema())
        index.prepare()
        write(index, records[:4])
    with closing(begun(tmp_path / "db", "0-of-1")) as one:
        write(one, records[4:])
        gone = [record.id for record in (records[0], records[1], records[4])]
        assert one.delete(gone) == 3
        assert one.delete(gone) == 0
        write(one, [records[1]])
        assert one.count() == 4
        expected = {records[number].id for number in (1, 2, 3, 5)}
        assert set(stored(one)) == expected
        assert {str(row["id"]) for row in one.scan(source=records[1].source)} <= expected
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.gather()
        assert set(stored(index)) == expected


def test_two_processes_of_one_task_do_not_write_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.lancedb.adapter.WRITER_PATIENCE_S", 0.1)
    with (
        closing(begun(tmp_path / "db", "0-of-2")),
        task(tmp_path / "db", "0-of-2") as second,
        pytest.raises(UsageError, match="another process writes"),
    ):
        second.prepare()


def test_what_was_written_for_an_index_that_was_replaced_is_not_taken_in(tmp_path: Path) -> None:
    with closing(begun(tmp_path / "db", "0-of-1")) as one:
        write(one, make_records(3))
        shutil.rmtree(tmp_path / "db" / "chunks.lance")
        with adapters_closed(f"lancedb://{tmp_path}/db") as index:
            index.ensure_schema(make_schema())
        with pytest.raises(UsageError, match="deleted or replaced during the run"):
            one.write(make_records(1), False)
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        assert index.gather() == 0
        assert index.count() == 0


KILLED = """
import os, signal, sys
import adapters
from adapters.lancedb import staging
step, number = sys.argv[2], int(sys.argv[3])
where = staging.LanceAdapter if step in ("append", "delete") else staging.os
if step == "rmtree":
    where = staging.shutil
before = getattr(where, step)
def last(*arguments):
    global number
    number -= 1
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*arguments)
setattr(where, step, last)
adapters.connect(sys.argv[1]).gather()
"""


@pytest.mark.parametrize(
    ("step", "number"), [("delete", 0), ("append", 0), ("append", 1), ("replace", 0), ("rmtree", 1)]
)
def test_a_gathering_killed_at_any_step_is_done_again(tmp_path: Path, step: str, number: int) -> None:
    records = make_records(8)
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.ensure_schema(make_schema())
        index.prepare()
        write(index, records[:3])
    for name, mine in (("0-of-2", records[3:5]), ("1-of-2", records[5:])):
        with closing(begun(tmp_path / "db", name)) as one:
            write(one, mine)
            assert one.delete([records[0].id if name == "0-of-2" else records[1].id]) == 1
            write(one, [records[0]] if name == "0-of-2" else [])
    start = [sys.executable, "-c", KILLED, f"lancedb://{tmp_path}/db", step, str(number)]
    done = subprocess.run(start, env={**os.environ, "LANCEDB_LOG": "error"}, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.gather()
        assert set(stored(index)) == {record.id for number, record in enumerate(records) if number != 1}


def test_what_a_killed_gathering_left_is_no_hindrance_to_tasks_that_ran_since(tmp_path: Path) -> None:
    records = make_records(6)
    with closing(begun(tmp_path / "db", "0-of-1")) as one:
        write(one, records[:3])
    (part,) = (tmp_path / "db" / "staging").glob("*/*")
    left = shutil.copytree(part, part.with_name(f"{part.name}.taken"))
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        assert index.gather() == 3
        assert not left.exists()
        assert set(stored(index)) == {record.id for record in records[:3]}


def test_a_part_that_is_still_written_is_not_taken_in_and_the_index_has_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.lancedb.adapter.WRITER_PATIENCE_S", 0.1)
    records = make_records(4)
    with closing(begun(tmp_path / "db", "0-of-1")) as one:
        write(one, records[:2])
        with (
            adapters_closed(f"lancedb://{tmp_path}/db") as index,
            pytest.raises(UsageError, match=r"0-of-1: another process writes"),
        ):
            index.gather()
        write(one, records[2:])
    url = f"lancedb://{tmp_path}/db"
    with adapters_closed(url) as index, adapters_closed(url) as other:
        assert index.gather() == 4
        with pytest.raises(UsageError, match="another process writes"):
            other.prepare()


def test_a_deletion_asks_once_what_is_listed_already_however_many_it_deletes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_records(20)
    with adapters_closed(f"lancedb://{tmp_path}/db") as index:
        index.ensure_schema(make_schema())
        index.prepare()
        write(index, records)
    asked, before = 0, StagedLance._listed

    def counted(one: StagedLance, ids: Sequence[str]) -> set[str]:
        nonlocal asked
        asked += 1
        return before(one, ids)

    monkeypatch.setattr(StagedLance, "_listed", counted)
    with closing(begun(tmp_path / "db", "0-of-1")) as one:
        assert one.delete([record.id for record in records]) == 20
    assert asked == 1
