"""The index's fields and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.elasticsearch import INDEX_KINDS
from adapters.schema import from_json, model_of, to_json
from engine.errors import SchemaMismatchError
from engine.records import ChunkerIdentity, IndexSchema, ModelInfo

#: Key of this engine's entry in the mapping's `_meta`.
META_KEY = "vector_streaming_engine"

#: Key of the entry of an index that is being loaded.
LOAD_KEY = "vector_streaming_engine_load"

#: Setting of servers from 9.2 on that takes vectors out of the stored document and gives them back from the
#: vector index where they are asked for.
LEAVE_VECTORS_OUT = "index.mapping.exclude_source_vectors"

#: Both vector fields.
VECTORS = ("text_embedding", "image_embedding")

#: Longest value of a keyword that is indexed, where a term has at most 32,766 bytes; longer ones are kept.
KEYWORD_CHARACTERS = 8191

#: Types of the user's own fields; a field of any type may hold a list.
FIELD_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "keyword", "ignore_above": KEYWORD_CHARACTERS},
    "integer": {"type": "long"},
    "float": {"type": "double"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "date"},
    "strings": {"type": "keyword", "ignore_above": KEYWORD_CHARACTERS},
}

#: Types of the record's own fields other than keyword.
TYPES = {
    "title": "text",
    "headings": "text",
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
    "id", "source", "document", "kind", "page", "position", "start", "end", "text", "title", "headings",
    "content_hash", "text_model", "image_model", "indexed_at", "mtime", "size", "media_type",
)  # fmt: skip


def mappings(schema: IndexSchema, index_kind: str) -> dict[str, Any]:
    """The whole mapping; a model that isn't known yet has no field."""
    properties: dict[str, Any] = {name: {"type": TYPES.get(name, "keyword")} for name in PLAIN_FIELDS}
    properties["document"] = FIELD_TYPES["string"]
    properties |= {name: FIELD_TYPES[kind] for name, kind in schema.fields}
    for kind in ("text", "image"):
        if model := model_of(schema, kind):
            properties[f"{kind}_embedding"] = vector_field(model, index_kind)
    return {"dynamic": "strict", "_meta": {META_KEY: to_json(schema)}, "properties": properties}


def vector_field(model: ModelInfo, index_kind: str) -> dict[str, Any]:
    """`dot_product` is the cheaper of two equals, and keeps the vector exactly; it needs unit vectors."""
    similarity = "dot_product" if model.normalized else "cosine"
    return {
        "type": "dense_vector",
        "dims": model.dimensions,
        "index": True,
        "similarity": similarity,
        "index_options": {"type": index_kind},
    }


def stored_schema(mapping: Mapping[str, Any], where: str) -> IndexSchema:
    """What the index was made with; of a user's own index that has every field, that it has no model yet.

    Raises `SchemaMismatchError` for any other index.
    """
    meta = mapping.get("_meta") or {}
    if META_KEY in meta:
        return from_json(meta[META_KEY], where)
    plain = IndexSchema(None, None, ChunkerIdentity.from_key(""))
    check_fits(mapping, plain, where)
    return plain


def check_fits(mapping: Mapping[str, Any], schema: IndexSchema, where: str) -> None:
    """Raise `SchemaMismatchError`, with each difference, where a user's own index can't hold the records."""
    found = mapping.get("properties") or {}
    wanted = mappings(schema, INDEX_KINDS[0])["properties"]
    wrong = [text for name, field in wanted.items() if (text := _difference(name, found.get(name), field))]
    if wrong:
        raise SchemaMismatchError(
            f"{where}: exists, was not made by this engine, and does not fit: {'; '.join(wrong)};"
            " name another index, or make these fields so"
        )


def _difference(name: str, found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str | None:
    """What is wrong with a field; `cosine` does for unit vectors too."""
    if found is None:
        return f"{name} is missing ({wanted['type']})"
    for key in ("type", "dims"):
        if found.get(key, "object" if key == "type" else None) != wanted.get(key):
            return f"{name} has {key} {found.get(key, 'object')}, not {wanted.get(key)}"
    if wanted["type"] == "dense_vector":
        if not found.get("index", True):
            return f"{name} is not indexed"
        similarity = found.get("similarity", "cosine")
        if similarity not in ("cosine", wanted["similarity"]):
            return f"{name} has similarity {similarity}, not {wanted['similarity']}"
    return None


def vector_index(mapping: Mapping[str, Any]) -> str | None:
    """The kind of vector index that the index has; None where it has no vectors yet."""
    for name in VECTORS:
        if field := (mapping.get("properties") or {}).get(name):
            return str(field.get("index_options", {}).get("type"))
    return None


def gives_vectors(mapping: Mapping[str, Any]) -> bool:
    """Whether the vectors can be read again: a server before 9.2 has them only in the stored document."""
    return not set(VECTORS) & set((mapping.get("_source") or {}).get("excludes", ()))


def settings(schema: IndexSchema, store_vectors: bool | None) -> dict[str, Any]:
    """Settings of a new index.

    From 9.2 on the server gives vectors back from the vector index, where `cosine` keeps a unit vector and a
    length: rounded, not what was written. Then they are stored whatever was asked.
    """
    models = (schema.text_model, schema.image_model)
    rounded = any(model is not None and not model.normalized for model in models)
    return {LEAVE_VECTORS_OUT: not (store_vectors or rounded)}
