"""An index of schema version 1 is read as it is, and upgraded in place where a run writes to it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from adapters.base import AdapterOptions
from adapters.elasticsearch import mapping
from adapters.schema import as_row
from engine.records import Record
from tests.adapters.harness import adapters_closed, stored, write
from tests.adapters.test_elasticsearch import client_of, drop
from tests.records import DIMENSIONS, make_record, make_records, make_schema, make_vectors

#: The fields that version 1 lacks.
NEW = ("document", "title", "headings")

SCHEMA = make_schema(fields=("tenant",))


def old_schema() -> dict[str, Any]:
    """How version 1 kept `SCHEMA`: the chunker by its key, the fields by their names."""
    models = {
        f"{kind}_model": {
            "name": f"{kind}-model",
            "digest": digest * 64,
            "dimensions": DIMENSIONS,
            "normalized": True,
        }
        for kind, digest in (("text", "d"), ("image", "e"))
    }
    return {**models, "chunker": SCHEMA.chunker.key, "fields": ["tenant"], "version": 1}


def old_records() -> list[Record]:
    return [make_record(f"old {n}", n, vector, tenant="blue") for n, vector in enumerate(make_vectors(5))]


def old_row(record: Record) -> dict[str, Any]:
    return {name: value for name, value in as_row(record).items() if name not in NEW}


def make_old_table(directory: Path) -> None:
    """The table as an engine of version 1 made it."""
    metadata = {"vector-streaming-engine": json.dumps({"identity": "abc", "schema": old_schema()})}
    time, vector = pa.timestamp("us", "UTC"), pa.list_(pa.float32(), DIMENSIONS)
    types = {"page": pa.int32(), "position": pa.int64(), "start": pa.int64(), "end": pa.int64()}
    types |= {"text_embedding": vector, "image_embedding": vector}
    types |= {"indexed_at": time, "mtime": time, "size": pa.int64()}
    names = (
        *("id", "source", "kind", "page", "position", "start", "end", "text", "text_embedding"),
        *("image_embedding", "content_hash", "text_model", "image_model", "indexed_at", "mtime", "size"),
        *("media_type", "tenant"),
    )
    columns = pa.schema(
        pa.field(name, types.get(name, pa.string()), metadata=metadata if name == "id" else None)
        for name in names
    )
    rows = [old_row(record) for record in old_records()]
    for row in rows:
        row["text_embedding"] = row["text_embedding"].tolist()
    lancedb.connect(directory).create_table("chunks", schema=columns).add(pa.Table.from_pylist(rows, columns))


@pytest.fixture
def old_lancedb(tmp_path: Path) -> str:
    make_old_table(tmp_path / "db")
    return f"lancedb://{tmp_path}/db"


@pytest.fixture
def old_elasticsearch(elasticsearch_url: str) -> Iterator[str]:
    url = f"{elasticsearch_url}/test-{uuid.uuid4().hex}"
    name = url.rpartition("/")[2]
    made = mapping.mappings(SCHEMA, "int8_hnsw")
    properties = {field: entry for field, entry in made["properties"].items() if field not in NEW}
    properties["tenant"] = {"type": "keyword"}
    with client_of(url) as client:
        client.indices.create(
            index=f"{name}-000001",
            mappings={
                "dynamic": "strict",
                "_meta": {mapping.META_KEY: old_schema()},
                "properties": properties,
            },
            aliases={name: {}},
        )
        for record in old_records():
            row = {key: value for key, value in old_row(record).items() if value is not None}
            row["text_embedding"] = row["text_embedding"].tolist()
            client.create(index=name, id=record.id, document=row)
    yield url
    drop(url)


@pytest.mark.parametrize("kind", ["old_lancedb", "old_elasticsearch"])
def test_an_index_of_version_1_is_read_as_it_is_and_then_upgraded_in_place(
    kind: str, request: pytest.FixtureRequest
) -> None:
    url, before = request.getfixturevalue(kind), old_records()
    with adapters_closed(url) as adapter:
        identity, schema = adapter.identity(), adapter.schema()
        assert schema == replace(SCHEMA, version=1)
        rows = stored(adapter)
        assert rows.keys() == {record.id for record in before}
        assert all(row[name] is None for row in rows.values() for name in NEW)
        (hit,) = adapter.search("text", before[2].embedding, 1)
        assert (hit.id, hit.title, hit.headings) == (before[2].id, None, None)

        adapter.ensure_schema(SCHEMA)
        assert (adapter.schema(), adapter.identity()) == (SCHEMA, identity)
        adapter.ensure_schema(SCHEMA)
        adapter.prepare()
        (new,) = make_records(1, seed=7)
        new = replace(new, document="row 1", title="Bees", headings="Hive", fields={"tenant": "red"})
        write(adapter, [*before, new], maybe_present=True)
        adapter.publish()
        rows = stored(adapter)
        assert rows.keys() == {record.id for record in (*before, new)}
        assert tuple(rows[new.id][name] for name in NEW) == ("row 1", "Bees", "Hive")
        for record in before:
            assert np.array_equal(np.asarray(rows[record.id]["text_embedding"]), record.embedding)
            assert (rows[record.id]["tenant"], rows[record.id]["title"]) == ("blue", None)
        assert adapter.search("text", new.embedding, 1)[0].title == "Bees"


def test_what_a_task_of_version_1_left_to_be_gathered_is_taken_in(old_lancedb: str, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with adapters_closed(f"lancedb://{index}", AdapterOptions(task="0-of-1")) as task:
        task.ensure_schema(SCHEMA)
        identity = task.identity()
    part = index / "staging" / str(identity) / "1-of-2"
    part.parent.mkdir(parents=True, exist_ok=True)
    Path(old_lancedb.partition("://")[2]).rename(part)
    with adapters_closed(f"lancedb://{index}") as adapter:
        assert adapter.gather() == 5
        assert stored(adapter).keys() == {record.id for record in old_records()}
        assert adapter.schema() == SCHEMA
