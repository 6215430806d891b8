"""The lines of a `_bulk` body hold exactly the record."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import datetime

import numpy as np
import orjson
import pytest

from adapters.elasticsearch.documents import BLOCK_RECORDS, create_lines, delete_line
from adapters.schema import as_row
from engine.records import Record
from tests.records import make_record, make_records, make_vectors


def expect_exact(records: list[Record], packed: bool) -> None:
    lines = list(create_lines(records, packed))
    assert len(lines) == len(records)
    for record, line in zip(records, lines, strict=True):
        action, document, end = line.split(b"\n")
        assert end == b""
        assert orjson.loads(action) == {"create": {"_id": record.id}}
        row = orjson.loads(document)
        vector = row.pop(f"{record.kind}_embedding")
        found = np.frombuffer(base64.b64decode(vector), ">f4") if packed else np.array(vector, np.float32)
        assert np.array_equal(found, record.embedding)
        for name in ("indexed_at", "mtime"):
            row[name] = datetime.fromisoformat(row[name])
        wanted = as_row(record, with_embeddings=False)
        assert row == {name: value for name, value in wanted.items() if value is not None}


@pytest.mark.parametrize("packed", [False, True], ids=["floats", "base64"])
def test_every_field_and_every_bit_of_a_vector_is_there(packed: bool) -> None:
    odd = 'a "quoted" \\ name\n\u2028\U0001f41d\x00'
    records = [
        *make_records(3, dim=7),
        *make_records(3, "image", 5),
        make_record(odd, 0, make_vectors(1)[0], source=f"/{odd}", picture_buffer=odd),
        replace(make_records(1)[0], page=None, text="", id=odd),
    ]
    expect_exact(records, packed)


@pytest.mark.parametrize("packed", [False, True], ids=["floats", "base64"])
def test_extreme_numbers_come_through(packed: bool) -> None:
    tiny = np.finfo(np.float32)
    values = np.array([0.0, -0.0, tiny.max, -tiny.max, tiny.tiny, tiny.smallest_subnormal, 1 / 3], np.float32)
    expect_exact([make_record("extremes", 0, values)], packed)


@pytest.mark.parametrize("packed", [False, True], ids=["floats", "base64"])
def test_many_records_of_many_files_keep_their_order(packed: bool) -> None:
    records = [record for seed in range(5) for record in make_records(BLOCK_RECORDS // 3, seed=seed)]
    expect_exact(records, packed)


def test_a_column_of_a_larger_matrix_is_taken_as_it_is() -> None:
    strided = np.arange(12, dtype=np.float32).reshape(4, 3)[:, 1]
    expect_exact([make_record("strided", 0, strided)], True)
    expect_exact([make_record("strided", 0, strided)], False)


def test_records_are_taken_a_block_at_a_time() -> None:
    taken = 0

    def count() -> object:
        nonlocal taken
        for record in make_records(3 * BLOCK_RECORDS):
            taken += 1
            yield record

    lines = create_lines(count(), True)  # type: ignore[arg-type]
    next(lines)
    assert taken == BLOCK_RECORDS


def test_a_delete_is_one_line() -> None:
    assert orjson.loads(delete_line('odd "id"')) == {"delete": {"_id": 'odd "id"'}}
