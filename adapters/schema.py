"""Shared by all adapters: an `IndexSchema` as JSON, comparing two, and checking records before a write."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import numpy as np

from adapters.filters import Filters
from engine.errors import SchemaMismatchError
from engine.records import (
    CHECKED_ID_DIGITS,
    ChunkerIdentity,
    FieldType,
    FieldValue,
    Hit,
    IndexSchema,
    Kind,
    ModelInfo,
    Record,
    Vector,
    field_type,
    record_id,
)

#: Versions of the schema that lack nothing but fields, which are added: document, title and headings.
UPGRADABLE = frozenset({1})

#: The range of a 64-bit integer.
INT64 = range(-(2**63), 2**63)

#: The fields of a record that tell where in its file it is from.
PLACE = ("page", "start", "end")


def to_json(schema: IndexSchema) -> dict[str, object]:
    """The schema as plain JSON values."""
    return {**asdict(schema), "fields": [list(field) for field in schema.fields]}


def from_json(stored: Any, where: str) -> IndexSchema:
    """The schema that `to_json` made; `where` names the index in the error.

    Raises `SchemaMismatchError` where `stored` is anything else: the index isn't one of this engine.
    """
    try:
        values: dict[str, Any] = dict(stored)
        for name in ("text_model", "image_model"):
            values[name] = None if values[name] is None else ModelInfo(**values[name])
        values["chunker"] = _chunker(values["chunker"])
        # Of version 1 the fields are names, all of strings.
        fields = ((field, "string") if isinstance(field, str) else tuple(field) for field in values["fields"])
        return IndexSchema(**{**values, "fields": tuple(fields)})
    except (TypeError, ValueError, KeyError, AttributeError):
        raise SchemaMismatchError(
            f"{where}: exists, but was not made by this engine (or by a newer version); name another one"
        ) from None


def _chunker(stored: Any) -> ChunkerIdentity:
    """The chunker's identity; an index that an older engine made holds its key alone."""
    if isinstance(stored, str):
        return ChunkerIdentity.from_key(stored)
    return ChunkerIdentity(**{**stored, "options": tuple((name, value) for name, value in stored["options"])})


def merged(existing: IndexSchema, wanted: IndexSchema, where: str, generations: bool = False) -> IndexSchema:
    """The schema of an index that is `existing` once `wanted` was asked of it.

    A model that only one of them knows is kept, the newest chunker is remembered, and a version in
    `UPGRADABLE` becomes the present one: the adapter adds the fields that the index lacks. Raises
    `SchemaMismatchError` that names both values where they can't be one index, and `--full` where the
    database has `generations`.
    """
    if existing.version != wanted.version and existing.version not in UPGRADABLE:
        raise _mismatch(where, "schema version", str(existing.version), str(wanted.version), generations)
    if existing.fields != wanted.fields:
        raise _mismatch(where, "--field names", _names(existing), _names(wanted), generations)
    for kind in ("text", "image"):
        old, new = model_of(existing, kind), model_of(wanted, kind)
        if old and new and (old.digest, old.dimensions) != (new.digest, new.dimensions):
            raise _mismatch(where, f"--{kind}-model", _describe(old), _describe(new), generations)
    return replace(
        wanted,
        text_model=existing.text_model or wanted.text_model,
        image_model=existing.image_model or wanted.image_model,
    )


def model_of(schema: IndexSchema, kind: str) -> ModelInfo | None:
    """The model of that kind's vectors."""
    return schema.text_model if kind == "text" else schema.image_model


def is_made_with(row: Mapping[str, object], schema: IndexSchema, chunkers: Iterable[str]) -> bool:
    """Whether a row of `scan` has the id of a record of this index that one of these chunkers made.

    `chunkers` are their keys; a picture needs none. The half of the id that a vector's context may decide is
    not looked at.
    """
    kind, source = str(row["kind"]), str(row["source"])
    model = model_of(schema, kind)
    if model is None:
        return False
    page, start, end = (place if isinstance(place, int) else None for place in map(row.get, PLACE))
    if kind == "image":
        start, end, chunkers = None, None, ("",)
    document = row.get("document")
    member = document if isinstance(document, str) else None
    content, digest = str(row["content_hash"]), model.digest
    ids = (record_id(source, page, start, end, content, name, digest, member) for name in chunkers)
    return any(one[:CHECKED_ID_DIGITS] == str(row["id"])[:CHECKED_ID_DIGITS] for one in ids)


def embedding_field(kind: Kind) -> str:
    """The record's field that holds the vectors of that kind."""
    return "text_embedding" if kind == "text" else "image_embedding"


def refusals(records: Sequence[Record], schema: IndexSchema) -> list[str | None]:
    """For each record why no database could keep it, or None: so that a bad one never spoils a batch."""
    types = dict(schema.fields)
    return [_refusal(record, schema, types) for record in records]


def nearest(
    rows: Iterable[Mapping[str, Any]], kind: Kind, vector: Vector, k: int, filters: Filters
) -> list[Hit]:
    """The k rows of `scan`, embeddings included, that are nearest to the vector: all of them are compared."""
    hits = []
    for row in rows:
        embedding = row[embedding_field(kind)]
        prefixed = row["source"].startswith(filters.source_prefix or "")
        if embedding is not None and prefixed and filters.media_type in (None, row["media_type"]):
            length = float(np.linalg.norm(embedding) * np.linalg.norm(vector))
            score = float(embedding @ vector) / length if length else 0.0
            places = (row["page"], score, row["text"], row["document"], row["title"], row["headings"])
            hits.append(Hit(row["id"], row["source"], kind, *places))
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k]


def as_row(
    record: Record, with_embeddings: bool = True, schema: IndexSchema | None = None
) -> dict[str, object]:
    """A record as `scan` gives it: the names of the stored fields, and those of the schema."""
    text = record.kind == "text"
    row: dict[str, object] = {
        "id": record.id,
        "source": record.source,
        "document": record.document,
        "kind": record.kind,
        "page": record.page,
        "position": record.position,
        "start": record.start,
        "end": record.end,
        "text": record.text,
        "title": record.title,
        "headings": record.headings,
        "content_hash": record.content_hash,
        "text_model": record.model if text else None,
        "image_model": None if text else record.model,
        "indexed_at": record.indexed_at,
        "mtime": record.mtime,
        "size": record.size,
        "media_type": record.media_type,
        **dict.fromkeys(name for name, _ in (schema.fields if schema else ())),
        **record.fields,
    }
    if with_embeddings:
        row["text_embedding"] = record.embedding if text else None
        row["image_embedding"] = None if text else record.embedding
    return row


def _refusal(record: Record, schema: IndexSchema, types: Mapping[str, FieldType]) -> str | None:
    model = model_of(schema, record.kind)
    if model is None:
        return f"the index has no {record.kind} model"
    if record.embedding.shape != (model.dimensions,):
        return f"its vector is {record.embedding.shape}, the index holds ({model.dimensions},)"
    if not np.isfinite(record.embedding).all():
        return "its vector holds a NaN or an infinity"
    try:
        for text in (record.source, record.text or "", *_strings(record)):
            text.encode("utf-8")
    except UnicodeEncodeError:
        return "its text holds a lone surrogate, which UTF-8 can't"
    return _field_fault(record.fields, types)


def _field_fault(fields: Mapping[str, FieldValue], types: Mapping[str, FieldType]) -> str | None:
    """Why values can't be kept in fields of these types; None where they can."""
    for name, value in fields.items():
        if name not in types:
            return f"the index has no field {name}"
        if field_type(value) != types[name]:
            return f"its field {name} is {value!r:.100}, the index holds {types[name]} there"
        if isinstance(value, int) and value not in INT64:
            return f"its field {name} needs more than 64 bits"
        if isinstance(value, float) and not math.isfinite(value):
            return f"its field {name} is not finite"
        if isinstance(value, datetime) and value.tzinfo is None:
            return f"its field {name} has no time zone"
    return None


def _strings(record: Record) -> list[str]:
    """The texts of a record besides its own."""
    found = [value for value in (record.document, record.title, record.headings) if value is not None]
    for value in record.fields.values():
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, tuple):
            found += value
    return found


def _mismatch(where: str, what: str, old: str, new: str, generations: bool) -> SchemaMismatchError:
    anew = ", or load a new generation with --full" if generations else ""
    return SchemaMismatchError(
        f"{where}: the index was made with {what} {old}, this run asks for {new};"
        f" use the same, or name another index{anew}"
    )


def _describe(model: ModelInfo) -> str:
    return f"{model.name} ({model.dimensions} dimensions, digest {model.digest[:12]})"


def _names(schema: IndexSchema) -> str:
    """The names of the fields, with their types where that is not `string`."""
    named = (name if kind == "string" else f"{name} ({kind})" for name, kind in schema.fields)
    return ", ".join(named) or "(none)"
