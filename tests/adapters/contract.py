"""The promise of `adapters.base.Adapter` as tests; each adapter's own test module subclasses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters.base import Adapter
from engine.errors import SchemaMismatchError, UsageError
from engine.records import (
    ChunkerIdentity,
    IndexSchema,
    Kind,
    ModelInfo,
)
from engine.sources import Corpus
from engine.sources.base import Item, Rules
from engine.sources.outputs import Outputs
from tests.adapters.contract_fields import FieldsContract
from tests.adapters.contract_search import SearchContract
from tests.adapters.harness import OPTIONS, adapters_closed, stored, write
from tests.records import DIMENSIONS, MTIME, make_record, make_records, make_schema, make_vectors

__all__ = ["OPTIONS", "AdapterContract", "DurableContract", "adapters_closed", "stored", "write"]


class AdapterContract(FieldsContract, SearchContract):
    """What every adapter must do, with one index that the fixture `url` names."""

    def test_without_an_index_there_is_nothing_and_no_error(self, adapter: Adapter) -> None:
        assert adapter.identity() is None
        assert adapter.schema() is None
        assert adapter.count() == 0
        assert list(adapter.scan()) == []
        assert adapter.search("text", make_vectors(1)[0], 5) == []

    def test_an_index_that_was_dropped_is_gone_and_may_be_made_again(self, index: Adapter) -> None:
        write(index, make_records(3))
        index.publish()
        size = index.size_bytes()
        assert size is None or size > 0
        for _ in range(2):
            index.drop()
            assert index.identity() is None
            assert index.count() == 0
        index.ensure_schema(make_schema())
        assert index.count() == 0

    def test_writing_without_an_index_is_refused(self, adapter: Adapter) -> None:
        with pytest.raises(UsageError, match="index"):
            adapter.write(make_records(1), maybe_present=False)
        assert adapter.identity() is None

    def test_an_index_remembers_what_it_was_made_with(self, index: Adapter) -> None:
        assert index.schema() == make_schema()

    def test_text_and_pictures_come_back_as_they_were_written(self, index: Adapter) -> None:
        texts, pictures = make_records(3), make_records(2, "image", seed=1)
        write(index, [*texts, *pictures])
        rows = stored(index)
        assert index.count() == 5
        for record in (*texts, *pictures):
            row = rows[record.id]
            for name in ("id", "source", "kind", "page", "position", "start", "end", "text", "size"):
                assert row[name] == getattr(record, name), name
            assert row["content_hash"] == record.content_hash
            assert (row["indexed_at"], row["mtime"]) == (record.indexed_at, record.mtime)
            assert row["media_type"] == record.media_type
            own, other = ("text", "image") if record.kind == "text" else ("image", "text")
            assert row[f"{own}_model"] == record.model
            assert row[f"{other}_model"] is None
            assert row[f"{other}_embedding"] is None

    def test_vectors_come_back_bit_by_bit(self, index: Adapter) -> None:
        records = make_records(50)
        write(index, records)
        rows = stored(index)
        for record in records:
            vector = rows[record.id]["text_embedding"]
            assert isinstance(vector, np.ndarray)
            assert vector.dtype == np.float32
            assert np.array_equal(vector, record.embedding)

    def test_a_scan_gives_the_ids_that_delete_takes(self, index: Adapter) -> None:
        write(index, make_records(5))
        assert index.delete([str(row["id"]) for row in index.scan()]) == 5
        assert index.count() == 0

    def test_a_scan_leaves_vectors_out_unless_asked(self, index: Adapter) -> None:
        write(index, make_records(1))
        (row,) = index.scan()
        assert "text_embedding" not in row
        assert "image_embedding" not in row
        assert row["text"] == "chunk 0 of file 0"

    def test_a_scan_streams_more_than_one_page(self, index: Adapter) -> None:
        records = make_records(2500)
        write(index, records)
        scan = index.scan()
        assert not isinstance(scan, list)
        assert {row["id"] for row in scan} == {record.id for record in records}

    def test_a_scan_of_one_source_gives_its_records_alone(self, index: Adapter) -> None:
        wanted = '/corpus/it\'s 100 % ü \\ "x".txt'
        near = ['/corpus/it\'s 100 % ü \\ "x".tx', wanted + "/y", wanted.upper(), "/corpus/other"]
        vectors = make_vectors(8)
        kinds: tuple[Kind, Kind] = ("text", "image")
        mine = [make_record(f"mine {i}", i, vectors[i], kinds[i % 2], wanted) for i in range(4)]
        others = [make_record(f"other {i}", i, vectors[4 + i], source=near[i]) for i in range(4)]
        write(index, [*mine, *others])
        assert {row["id"] for row in index.scan(source=wanted)} == {record.id for record in mine}
        assert list(index.scan(source="/nowhere")) == []
        (row,) = index.scan(with_embeddings=True, source=near[3])
        assert np.array_equal(np.asarray(row["text_embedding"]), others[3].embedding)

    def test_records_may_be_deleted_while_their_source_is_scanned(self, index: Adapter) -> None:
        records = make_records(2500)
        write(index, [*records, *make_records(10, seed=1)])
        seen: list[str] = []
        scan = index.scan(source=records[0].source)
        while ids := [str(row["id"]) for row in islice(scan, 1000)]:
            seen += ids
            assert index.delete(ids) == len(ids)
        assert sorted(seen) == sorted(record.id for record in records)
        assert index.count() == 10

    def test_writing_again_leaves_one_record_of_each_id(self, index: Adapter) -> None:
        records = make_records(20)
        write(index, records[:10])
        write(index, records, maybe_present=True)
        write(index, records, maybe_present=True)
        assert set(stored(index)) == {record.id for record in records}

    def test_what_may_be_there_but_is_not_is_written(self, index: Adapter) -> None:
        records = make_records(10)
        write(index, records, maybe_present=True)
        assert set(stored(index)) == {record.id for record in records}

    def test_the_first_write_of_a_record_keeps_its_times(self, index: Adapter) -> None:
        (record,) = make_records(1)
        write(index, [record])
        later = replace(record, mtime=datetime(2031, 1, 1, tzinfo=UTC), size=9)
        write(index, [later], maybe_present=True)
        row = stored(index)[record.id]
        assert (row["mtime"], row["size"]) == (MTIME, 4096)

    @pytest.mark.parametrize("maybe_present", [False, True])
    def test_ids_may_repeat_inside_a_batch(self, index: Adapter, maybe_present: bool) -> None:
        records = make_records(3)
        write(index, [*records, *records, records[0]], maybe_present)
        assert set(stored(index)) == {record.id for record in records}

    def test_an_empty_batch_is_no_error(self, index: Adapter) -> None:
        assert index.write([], maybe_present=False) == []
        assert index.write([], maybe_present=True) == []
        assert index.delete([]) == 0

    def test_a_bad_record_does_not_take_the_others_with_it(self, index: Adapter) -> None:
        good = make_records(2)
        wrong_length = replace(make_records(1, seed=5)[0], embedding=make_vectors(1, 3)[0])
        not_a_number = make_records(1, seed=6)[0]
        not_a_number.embedding[0] = np.nan
        surrogate = make_record("half \ud83d a pair", 0, make_vectors(1)[0])
        outcomes = index.write([good[0], wrong_length, not_a_number, surrogate, good[1]], False)
        assert [outcome is None for outcome in outcomes] == [True, False, False, False, True]
        assert "16" in str(outcomes[1])
        assert "NaN" in str(outcomes[2])
        assert "surrogate" in str(outcomes[3])
        assert set(stored(index)) == {record.id for record in good}

    def test_delete_tells_how_many_were_there(self, index: Adapter) -> None:
        records = make_records(10)
        write(index, records)
        assert index.delete([records[0].id, records[3].id, "f" * 32, "it's not there"]) == 2
        assert index.delete([records[0].id]) == 0
        assert set(stored(index)) == {record.id for i, record in enumerate(records) if i not in (0, 3)}

    def test_many_ids_are_deleted_at_once(self, index: Adapter) -> None:
        records = make_records(2500)
        write(index, records)
        assert index.delete([record.id for record in records[:2200]]) == 2200
        assert index.count() == 300

    def test_a_deleted_record_can_be_written_again(self, index: Adapter) -> None:
        records = make_records(2)
        write(index, records)
        index.delete([records[0].id])
        write(index, records, maybe_present=True)
        assert set(stored(index)) == {record.id for record in records}

    def test_a_model_that_is_met_later_is_added(self, adapter: Adapter) -> None:
        texts, pictures = make_records(3), make_records(2, "image", 8, seed=1)
        adapter.ensure_schema(make_schema(image=False))
        write(adapter, texts)
        assert adapter.search("image", make_vectors(1, 8)[0], 3) == []
        assert None not in adapter.write(pictures, maybe_present=False)
        picture_model = ModelInfo("image-model", "e" * 64, 8, True)
        wanted = replace(
            make_schema(),
            text_model=None,
            image_model=picture_model,
            chunker=ChunkerIdentity.from_key("newer"),
        )
        adapter.ensure_schema(wanted)
        write(adapter, pictures)
        assert adapter.schema() == replace(wanted, text_model=make_schema().text_model)
        rows = stored(adapter)
        assert len(rows) == 5
        assert np.array_equal(np.asarray(rows[pictures[0].id]["image_embedding"]), pictures[0].embedding)
        assert rows[texts[0].id]["image_embedding"] is None
        assert len(adapter.search("image", pictures[0].embedding, 5)) == 2

    def test_an_index_may_start_without_any_model(self, adapter: Adapter) -> None:
        adapter.ensure_schema(replace(make_schema(), text_model=None, image_model=None))
        assert adapter.search("text", make_vectors(1)[0], 3) == []
        adapter.ensure_schema(make_schema())
        write(adapter, make_records(2))
        assert len(adapter.search("text", make_vectors(1)[0], 3)) == 2

    def test_a_schema_that_fits_changes_neither_records_nor_identity(self, index: Adapter) -> None:
        write(index, make_records(2))
        identity = index.identity()
        index.ensure_schema(make_schema())
        assert index.identity() == identity
        assert index.count() == 2

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (
                replace(make_schema(), text_model=ModelInfo("else", "f" * 64, DIMENSIONS, True)),
                "text-model .*else",
            ),
            (replace(make_schema(), text_model=ModelInfo("text-model", "d" * 64, 8, True)), "16 .*8 dim"),
            (
                replace(make_schema(), image_model=ModelInfo("clip", "a" * 64, DIMENSIONS, True)),
                "image-model .*clip",
            ),
            (make_schema(fields=("tenant",)), r"\(none\).*tenant"),
            (replace(make_schema(), version=99), "2.*99"),
        ],
        ids=["digest", "dimensions", "image", "fields", "version"],
    )
    def test_another_schema_is_refused_with_both_values(
        self, index: Adapter, other: IndexSchema, words: str
    ) -> None:
        with pytest.raises(SchemaMismatchError, match=words) as caught:
            index.ensure_schema(other)
        assert "\n" not in str(caught.value)
        assert index.schema() == make_schema()

    def test_what_somebody_else_made_is_refused(self, adapter: Adapter, url: str) -> None:
        self.make_foreign(url)
        with pytest.raises(SchemaMismatchError, match="not made by this engine"):
            adapter.schema()
        with pytest.raises(SchemaMismatchError, match="not made by this engine"):
            adapter.ensure_schema(make_schema())

    def test_identity_changes_when_the_index_is_made_anew(self, index: Adapter, url: str) -> None:
        before = index.identity()
        assert before
        self.drop(url)
        assert index.identity() is None
        assert index.count() == 0
        with adapters_closed(url) as other:
            other.ensure_schema(make_schema())
            assert other.identity() not in (None, before)
            assert index.identity() == other.identity()

    def test_a_deleted_index_is_not_made_anew_by_a_write(self, index: Adapter, url: str) -> None:
        write(index, make_records(1))
        self.drop(url)
        with pytest.raises(UsageError):
            index.write(make_records(1, seed=1), maybe_present=False)
        assert index.identity() is None

    def test_the_local_files_of_an_index_are_never_listed(
        self, index: Adapter, url: str, tmp_path: Path
    ) -> None:
        index.prepare()
        write(index, make_records(3))
        index.publish()
        rules = Rules(hidden=True, outputs=Outputs(adapters.files(url)))
        assert [each for each in Corpus([str(tmp_path)], rules=rules) if isinstance(each, Item)] == []

    def test_a_run_prepares_writes_and_publishes(self, index: Adapter) -> None:
        index.prepare()
        for seed in range(4):
            write(index, make_records(25, seed=seed))
        assert index.count() == 100
        index.publish()
        assert index.count() == 100
        assert len(stored(index)) == 100
        assert index.schema() == make_schema()
        index.publish()

    def test_another_adapter_sees_what_was_acknowledged(self, index: Adapter, url: str) -> None:
        with adapters_closed(url) as other:
            assert other.count() == 0
            write(index, make_records(7))
            assert other.count() == 7
            index.delete([make_records(1)[0].id])
            assert other.count() == 6

    def test_closing_twice_is_no_error(self, index: Adapter) -> None:
        index.close()
        index.close()


class DurableContract(AdapterContract):
    """What an adapter must do whose index outlives the process."""

    def test_another_process_finds_everything(self, index: Adapter, url: str) -> None:
        records = make_records(30)
        write(index, records)
        identity = index.identity()
        index.close()
        code = (
            "import sys, adapters; a = adapters.connect(sys.argv[1]);"
            "print(a.identity(), a.count(), len(list(a.scan())), a.schema().text_model.name)"
        )
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [identity, "30", "30", "text-model"]

    def test_a_killed_writer_loses_nothing_that_was_acknowledged(self, url: str) -> None:
        code = (
            "import sys, adapters; from tests.adapters.harness import OPTIONS;"
            "from tests.records import make_records, make_schema;"
            "a = adapters.connect(sys.argv[1], OPTIONS); a.ensure_schema(make_schema()); a.prepare()\n"
            "for seed in range(1000):\n"
            "    assert a.write(make_records(50, seed=seed), False) == [None] * 50; print(seed, flush=True)"
        )
        writer = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(5)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
        writer.stdout.close()
        writer.wait()
        with adapters_closed(url) as adapter:
            found = stored(adapter)
            for seed in acknowledged:
                assert {record.id for record in make_records(50, seed=seed)} <= set(found)
            # And the batch that may or may not have arrived is written once, as the engine would.
            last = make_records(50, seed=acknowledged[-1] + 1)
            write(adapter, last, maybe_present=True)
            expected = {
                r.id for seed in [*acknowledged, acknowledged[-1] + 1] for r in make_records(50, seed=seed)
            }
            assert set(stored(adapter)) == expected
