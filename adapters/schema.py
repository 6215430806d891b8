"""What every adapter does alike: keep an `IndexSchema` as JSON, compare two, judge a record beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from engine.errors import SchemaMismatchError
from engine.records import (
    CHECKED_ID_DIGITS,
    ChunkerIdentity,
    IndexSchema,
    Kind,
    ModelInfo,
    Record,
    Vector,
    record_id,
)

#: The fields of a record that tell where in its file it is from.
PLACE = ("page", "start", "end")


def to_json(schema: IndexSchema) -> dict[str, object]:
    """The schema as plain JSON values."""
    return {**asdict(schema), "fields": list(schema.fields)}


def from_json(stored: Any, where: str) -> IndexSchema:
    """The schema that `to_json` made; `where` names the index in the error.

    Raises `SchemaMismatchError` where `stored` is anything else: the index isn't one of this engine.
    """
    try:
        values: dict[str, Any] = dict(stored)
        for name in ("text_model", "image_model"):
            values[name] = None if values[name] is None else ModelInfo(**values[name])
        values["chunker"] = _chunker(values["chunker"])
        return IndexSchema(**{**values, "fields": tuple(values["fields"])})
    except (TypeError, ValueError, KeyError, AttributeError):
        raise SchemaMismatchError(
            f"{where}: exists, but was not made by this engine (or by a newer version); name another one"
        ) from None


def _chunker(stored: Any) -> ChunkerIdentity:
    """The chunker's identity; an index that an older engine made holds its key alone."""
    if isinstance(stored, str):
        return ChunkerIdentity.from_key(stored)
    return ChunkerIdentity(**{**stored, "options": tuple((name, value) for name, value in stored["options"])})


def merged(existing: IndexSchema, wanted: IndexSchema, where: str) -> IndexSchema:
    """The schema of an index that is `existing` once `wanted` was asked of it.

    A model that only one of them knows is kept, the newest chunker is remembered. Raises
    `SchemaMismatchError` that names both values where they can't be one index.
    """
    if existing.version != wanted.version:
        raise _mismatch(where, "schema version", str(existing.version), str(wanted.version))
    if existing.fields != wanted.fields:
        raise _mismatch(where, "--field names", _names(existing.fields), _names(wanted.fields))
    for kind in ("text", "image"):
        old, new = model_of(existing, kind), model_of(wanted, kind)
        if old and new and (old.digest, old.dimensions) != (new.digest, new.dimensions):
            raise _mismatch(where, f"--{kind}-model", _describe(old), _describe(new))
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
    if _all_fit(records, schema):
        return [None] * len(records)
    return [_refusal(record, schema) for record in records]


def as_row(record: Record, with_embeddings: bool = True) -> dict[str, object]:
    """A record as `scan` gives it: the names of the stored fields, constant fields beside the others."""
    text = record.kind == "text"
    row: dict[str, object] = {
        "id": record.id,
        "source": record.source,
        "kind": record.kind,
        "page": record.page,
        "position": record.position,
        "start": record.start,
        "end": record.end,
        "text": record.text,
        "content_hash": record.content_hash,
        "text_model": record.model if text else None,
        "image_model": None if text else record.model,
        "indexed_at": record.indexed_at,
        "mtime": record.mtime,
        "size": record.size,
        "media_type": record.media_type,
        **record.fields,
    }
    if with_embeddings:
        row["text_embedding"] = record.embedding if text else None
        row["image_embedding"] = None if text else record.embedding
    return row


def _all_fit(records: Sequence[Record], schema: IndexSchema) -> bool:
    """Whether `_refusal` would find nothing, told by one look at all records, which is much cheaper."""
    vectors: dict[Kind, list[Vector]] = {"text": [], "image": []}
    texts = set()
    for record in records:
        vectors[record.kind].append(record.embedding)
        texts.add(record.source)
        texts.update(_strings(record))
    texts.update(record.text for record in records if record.text)
    for kind, found in vectors.items():
        model = model_of(schema, kind)
        if found and (model is None or any(vector.shape != (model.dimensions,) for vector in found)):
            return False
        if found and not np.isfinite(np.concatenate(found)).all():
            return False
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refusal(record: Record, schema: IndexSchema) -> str | None:
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


def _mismatch(where: str, what: str, old: str, new: str) -> SchemaMismatchError:
    return SchemaMismatchError(
        f"{where}: the index was made with {what} {old}, this run asks for {new}; "
        "use the same, or name another index (Elasticsearch: --full loads it anew)"
    )


def _describe(model: ModelInfo) -> str:
    return f"{model.name} ({model.dimensions} dimensions, digest {model.digest[:12]})"


def _names(fields: tuple[str, ...]) -> str:
    return ", ".join(fields) or "(none)"
