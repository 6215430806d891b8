"""An index remembers what it was made with, and an index of an older engine is read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapters.schema import from_json, is_made_with, to_json
from engine.errors import SchemaMismatchError
from engine.records import ChunkerIdentity, record_id
from tests.records import CHUNKER, make_records, make_schema


def test_a_schema_comes_back_from_the_json_that_it_was_stored_as() -> None:
    options = (("size", 64), ("share", 0.5), ("strict", True), ("by", "words"))
    for chunker in (ChunkerIdentity("mine", options, "v2", "mine:size=64,v2"), ChunkerIdentity.from_key("")):
        schema = replace(make_schema(fields=("a", "b")), chunker=chunker)
        assert from_json(json.loads(json.dumps(to_json(schema))), "here") == schema


def test_an_index_that_holds_its_chunkers_key_alone_is_read() -> None:
    stored = to_json(make_schema()) | {"chunker": "tokens=256,overlap=0,v1"}
    options = (("size", 256), ("overlap", 0))
    wanted = ChunkerIdentity("tokens", options, "v1", "tokens=256,overlap=0,v1")
    assert from_json(stored, "here").chunker == wanted


@pytest.mark.parametrize("chunker", [None, 7, {"name": "x"}, {"options": 3}, ["tokens"]])
def test_a_chunker_that_no_engine_stored_is_refused(chunker: object) -> None:
    with pytest.raises(SchemaMismatchError, match="here: exists, but was not made by this engine"):
        from_json(to_json(make_schema()) | {"chunker": chunker}, "here")


def test_a_record_whose_vector_has_a_context_is_known_by_its_own_fields() -> None:
    schema = make_schema()
    record = make_records(1)[0]
    where = (record.source, record.page, record.start, record.end, record.content_hash)
    digest = schema.text_model.digest if schema.text_model else ""
    row = {
        "kind": "text",
        "source": record.source,
        "page": record.page,
        "start": record.start,
        "end": record.end,
        "content_hash": record.content_hash,
    }
    for context in (None, "ab" * 32):
        made = row | {"id": record_id(*where, CHUNKER, digest, context=context)}
        assert is_made_with(made, schema, ["older", CHUNKER])
        assert not is_made_with(made, schema, ["older"])
        assert not is_made_with(made | {"start": 7}, schema, [CHUNKER])
