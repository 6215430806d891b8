"""The index's fields and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.schema import from_json, model_of, to_json
from engine.records import IndexSchema, ModelInfo

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
