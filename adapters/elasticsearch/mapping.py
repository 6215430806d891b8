"""The index's fields and settings, and the documents that go into it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import orjson

from adapters.schema import as_row, from_json, model_of, to_json
from engine.records import IndexSchema, ModelInfo, Record

#: Key of this engine's entry in the mapping's `_meta`.
META_KEY = "vector_streaming_engine"

#: Explicit, because the server's default changed in 9.0 and in 9.1.
INDEX_OPTIONS = {"type": "int8_hnsw"}

#: Setting that takes vectors out of the stored document.
KEEP_VECTORS = "index.mapping.exclude_source_vectors"

#: Both vector fields.
VECTORS = ("text_embedding", "image_embedding")

#: Field types other than keyword.
TYPES = {
    "page": "integer",
    "position": "long",
    "start": "long",
    "end": "long",
    "text": "text",
    "indexed_at": "date",
    "mtime": "date",
    "size": "long",
}

#: Fields that are stored under their own name; the vectors are apart.
PLAIN_FIELDS = (
    "id", "source", "kind", "page", "position", "start", "end", "text", "content_hash", "text_model",
    "image_model", "indexed_at", "mtime", "size", "media_type",
)  # fmt: skip


def mappings(schema: IndexSchema) -> dict[str, Any]:
    """The whole mapping; a model that isn't known yet has no field."""
    properties: dict[str, Any] = {
        name: {"type": TYPES.get(name, "keyword")} for name in (*PLAIN_FIELDS, *schema.fields)
    }
    for kind in ("text", "image"):
        if model := model_of(schema, kind):
            properties[f"{kind}_embedding"] = vector_field(model)
    return {"dynamic": "strict", "_meta": {META_KEY: to_json(schema)}, "properties": properties}


def vector_field(model: ModelInfo) -> dict[str, Any]:
    """`dot_product` is the cheaper of two equals, and keeps the vector exactly; it needs unit vectors."""
    similarity = "dot_product" if model.normalized else "cosine"
    return {
        "type": "dense_vector",
        "dims": model.dimensions,
        "index": True,
        "similarity": similarity,
        "index_options": INDEX_OPTIONS,
    }


def stored_schema(mapping: Mapping[str, Any], where: str) -> IndexSchema:
    """What the index was made with. Raises `SchemaMismatchError` for an index of anybody else."""
    return from_json((mapping.get("_meta") or {}).get(META_KEY), where)


def settings(schema: IndexSchema) -> dict[str, Any]:
    """Settings of a new index.

    From 9.2 on the server rebuilds vectors from the index unless it is told to keep them as they were sent,
    and `cosine` keeps only a unit vector and a length there: rounded, not what was written.
    """
    models = (schema.text_model, schema.image_model)
    rounded = any(model is not None and not model.normalized for model in models)
    return {KEEP_VECTORS: False} if rounded else {}


def create_line(record: Record) -> bytes:
    """The two lines of one `create` in a `_bulk` body; floats as the shortest text that is exact."""
    row = as_row(record)
    document = {name: value for name, value in row.items() if value is not None}
    action = b'{"create":{"_id":' + orjson.dumps(record.id) + b"}}\n"
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return action + orjson.dumps(document, default=_contiguous, option=options)


def _contiguous(value: object) -> Any:
    """A slice of a matrix with a stride, which orjson doesn't take as it is."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value)
    raise TypeError(type(value).__name__)


def delete_line(record_id: str) -> bytes:
    """The line of one `delete` in a `_bulk` body."""
    return b'{"delete":{"_id":' + orjson.dumps(record_id) + b"}}\n"


def row_of(hit: Mapping[str, Any], names: tuple[str, ...], with_embeddings: bool) -> dict[str, object]:
    """One search hit as `scan` gives it."""
    source = hit["_source"]
    row: dict[str, object] = {name: source.get(name) for name in names}
    for name in ("indexed_at", "mtime"):
        row[name] = datetime.fromisoformat(source[name])
    if with_embeddings:
        found = hit.get("fields", {})
        for name in VECTORS:
            row[name] = np.array(found[name], np.float32) if name in found else None
    return row
