"""Records, vectors and schemas for tests: deterministic, and cheap to make by the thousand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from engine.records import (
    ChunkerIdentity,
    FieldType,
    FieldValue,
    IndexSchema,
    Kind,
    ModelInfo,
    Record,
    Vector,
    record_id,
    text_hash,
)

#: The files' modification time in made records; microseconds, so that a store that rounds shows.
MTIME = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)

#: Key of the chunker of made records.
CHUNKER = "tokens-256-0"

#: Dimensions of made vectors where a test doesn't say.
DIMENSIONS = 16


def make_schema(
    dimensions: int = DIMENSIONS, image: bool = True, fields: Sequence[str | tuple[str, FieldType]] = ()
) -> IndexSchema:
    """A schema that fits records of `make_records`; a field without a type is a string."""
    return IndexSchema(
        text_model=ModelInfo("text-model", "d" * 64, dimensions, True),
        image_model=ModelInfo("image-model", "e" * 64, dimensions, True) if image else None,
        chunker=ChunkerIdentity.from_key(CHUNKER),
        fields=tuple((field, "string") if isinstance(field, str) else field for field in fields),
    )


def make_vectors(n: int, dimensions: int = DIMENSIONS, seed: int = 0) -> Vector:
    """Unit vectors, float32 [n, dimensions]."""
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def make_records(n: int, kind: Kind = "text", dim: int = DIMENSIONS, seed: int = 0) -> list[Record]:
    """n records of one file, with ids as the engine makes them; another seed gives another file."""
    return [
        make_record(f"chunk {index} of file {seed}", index, vector, kind, f"/corpus/file {seed}")
        for index, vector in enumerate(make_vectors(n, dim, seed))
    ]


def make_record(
    text: str,
    position: int,
    vector: Vector,
    kind: Kind = "text",
    source: str = "/corpus/file",
    **fields: FieldValue,
) -> Record:
    """One record; a picture's has no text and no place in a text."""
    content = text_hash(text)
    is_text = kind == "text"
    start, end = (position * 1000, position * 1000 + len(text)) if is_text else (None, None)
    model = "text-model" if is_text else "image-model"
    return Record(
        id=record_id(source, position + 1, start, end, content, CHUNKER, model),
        source=source,
        kind=kind,
        page=position + 1,
        position=position,
        start=start,
        end=end,
        text=text if is_text else None,
        embedding=vector,
        content_hash=content,
        model=model,
        indexed_at=MTIME + timedelta(days=1, microseconds=position),
        mtime=MTIME,
        size=4096,
        media_type="text/plain" if is_text else "image/png",
        fields=fields,
    )
