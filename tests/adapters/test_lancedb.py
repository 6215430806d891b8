from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest

import adapters
import adapters.lancedb.adapter
from engine.errors import DatabaseUnavailableError, DiskFullError, UsageError
from tests.adapters.contract import DurableContract, adapters_closed, stored, write
from tests.disks import fill, small_disk
from tests.records import make_records, make_schema


class TestLanceDB(DurableContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"lancedb://{tmp_path}/sub dir/vectors.lancedb"

    def drop(self, url: str) -> None:
        shutil.rmtree(url.partition("://")[2])

    def be_impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(adapters.lancedb.adapter, "WRITER_PATIENCE_S", 0.1)

    def make_foreign(self, url: str) -> None:
        lancedb.connect(url.partition("://")[2]).create_table("chunks", pa.table({"id": ["1"], "v": [1]}))


def test_the_table_has_the_documented_columns(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema(fields=("tenant",)))
    table = lancedb.connect(tmp_path / "db").open_table("chunks")
    assert table.schema.names == [
        *("id", "source", "document", "kind", "page", "position", "start", "end", "text", "title"),
        *("headings", "text_embedding", "image_embedding", "content_hash", "text_model", "image_model"),
        *("indexed_at", "mtime", "size", "media_type", "tenant"),
    ]
    assert table.schema.field("text_embedding").type == pa.list_(pa.float32(), 16)
    assert table.schema.field("mtime").type == pa.timestamp("us", "UTC")


def test_a_relative_path_is_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with adapters_closed("lancedb://here/db") as adapter:
        adapter.ensure_schema(make_schema())
    assert (tmp_path / "here" / "db" / "chunks.lance").is_dir()


def test_looking_creates_nothing(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        assert adapter.schema() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/db"):
        with pytest.raises(UsageError, match="file is not a directory"):
            adapters.connect(f"lancedb://{tmp_path}/{path}")
    with pytest.raises(UsageError, match="name a directory"):
        adapters.connect("lancedb://")


def test_a_directory_that_cannot_be_made_is_refused() -> None:
    with (
        adapters_closed("lancedb:///proc/nowhere/db") as adapter,
        pytest.raises(UsageError, match="/proc/nowhere"),
    ):
        adapter.ensure_schema(make_schema())


def test_a_missing_driver_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['lancedb'] = None; import adapters\n"
        "try: adapters.connect('lancedb://x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UsageError")
    assert "pip install lancedb" in done.stdout


def test_what_somebody_else_wrote_is_scanned_as_far_as_it_goes(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema(image=False))
        records = make_records(3)
        write(adapter, records)
        table = lancedb.connect(tmp_path / "db").open_table("chunks")
        table.update(where=f"id = '{records[1].id}'", values={"text_embedding": None, "mtime": None})
        table.add(pa.Table.from_pylist([{"id": "theirs", "kind": "image"}, {"source": "/x"}], table.schema))
        rows = {row["id"]: row for row in adapter.scan(with_embeddings=True)}
        assert rows.keys() == {*(record.id for record in records), "theirs", None}
        assert [rows[record.id]["text_embedding"] is None for record in records] == [False, True, False]
        assert rows[records[1].id]["mtime"] is None
        assert (rows["theirs"]["image_embedding"], rows["theirs"]["text"]) == (None, None)
        assert rows[None]["source"] == "/x"


def test_many_small_appends_are_compacted_within_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters.lancedb.adapter, "COMPACT_AFTER", 10)
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema())
        for seed in range(25):
            write(adapter, make_records(2, seed=seed))
        table = lancedb.connect(tmp_path / "db").open_table("chunks")
        assert table.stats()["fragment_stats"]["num_fragments"] < 10
        assert len(stored(adapter)) == 50


def test_a_large_batch_is_appended_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema(dimensions=100))
        monkeypatch.setattr(adapters.lancedb.adapter, "APPEND_BYTES", 2000)
        before = adapter.state()
        records = make_records(11, dim=100)  # 400 bytes of vector and some of text each
        write(adapter, records)
        assert set(stored(adapter)) == {record.id for record in records}
        versions = [int(str(state).rsplit(" ", 1)[1]) for state in (before, adapter.state())]
        assert versions[1] - versions[0] == 3


def test_a_table_that_was_deleted_before_its_run_s_end_is_told(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.publish()  # there was none, and none was asked for
        adapter.ensure_schema(make_schema())
        write(adapter, make_records(5))
        shutil.rmtree(tmp_path / "db" / "chunks.lance")
        with pytest.raises(UsageError, match="the index was deleted or replaced during the run"):
            adapter.publish()


def test_a_table_that_lacks_a_file_is_told_with_what_helps(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema())
        write(adapter, make_records(5))
    (data,) = (tmp_path / "db/chunks.lance/data").iterdir()
    data.unlink()
    told = f"the file {data.name} of its table is missing; where it is lost, delete the directory and run"
    with (
        adapters_closed(f"lancedb://{tmp_path}/db") as adapter,
        pytest.raises(DatabaseUnavailableError, match=told),
    ):
        list(adapter.scan())


def test_a_reader_survives_a_compaction(tmp_path: Path) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema())
        for seed in range(3):
            write(adapter, make_records(700, seed=seed))
        scan = adapter.scan()
        first = next(scan)
        adapter.publish()
        assert len({row["id"] for row in (first, *scan)}) == 2100


def test_after_an_append_that_failed_nothing_is_taken_as_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema())
        records = make_records(5)
        add = lancedb.table.LanceTable.add

        def add_and_fail(table: object, data: object, **options: object) -> None:
            add(table, data, **options)
            raise RuntimeError("lance error: IO error: No space left on device (os error 28), somewhere.rs")

        with monkeypatch.context() as patch:
            patch.setattr(lancedb.table.LanceTable, "add", add_and_fail)
            with pytest.raises(DiskFullError, match="the disk is full"):
                adapter.write(records, maybe_present=False)
        write(adapter, records)  # the same call again, as the contract allows
        assert len(stored(adapter)) == 5


def test_a_table_whose_creation_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    for folder in ("_versions", "_transactions"):
        (tmp_path / "db" / "chunks.lance" / folder).mkdir(parents=True)
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        assert (adapter.identity(), adapter.schema(), adapter.count()) == (None, None, 0)
        adapter.ensure_schema(make_schema())
        write(adapter, make_records(5))
        assert len(stored(adapter)) == 5


def test_an_adapter_goes_on_when_its_full_disk_has_room_again() -> None:
    with small_disk(16 * 2**20) as disk, adapters_closed(f"lancedb://{disk}/db") as adapter:
        ballast = fill(disk)
        with pytest.raises(DiskFullError, match="the disk is full"):
            adapter.ensure_schema(make_schema())
        ballast.unlink()
        adapter.ensure_schema(make_schema())
        adapter.prepare()
        write(adapter, make_records(20))
        for left in (0, 4096, 20_000):
            ballast = fill(disk, left)
            with pytest.raises(DiskFullError):
                adapter.write(make_records(2000, seed=2), maybe_present=False)
            ballast.unlink()
        assert adapter.count() == 20
        write(adapter, make_records(2000, seed=2))
        assert len(stored(adapter)) == 2020


def test_an_index_that_is_replaced_during_a_run_is_not_written_to(tmp_path: Path) -> None:
    url = f"lancedb://{tmp_path}/db"
    with adapters_closed(url) as adapter:
        adapter.ensure_schema(make_schema())
        shutil.rmtree(tmp_path / "db")
        with adapters_closed(url) as other:
            other.ensure_schema(make_schema())
        with pytest.raises(UsageError, match="replaced during the run"):
            adapter.write(make_records(1), maybe_present=False)
        assert adapter.count() == 0
        with pytest.raises(UsageError, match="replaced during the run"):
            adapter.write(make_records(1), maybe_present=False)


def test_processes_that_create_one_index_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys, adapters; from tests.records import make_schema\n"
        "for line in sys.stdin:\n"
        "  one = adapters.connect(sys.argv[1] + line.strip())\n"
        "  one.ensure_schema(make_schema()); print(one.identity(), flush=True); one.close()"
    )
    command = [sys.executable, "-c", code, f"lancedb://{tmp_path}/db"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        for number in range(15):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
            told = {process.stdout.readline() for process in processes if process.stdout is not None}
            assert len(told) == 1 and told != {""}
    assert all(process.returncode == 0 for process in processes)
