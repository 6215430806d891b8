"""Segments for tests of the stages that come after parsing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.records import Kind, record_id, text_hash
from engine.stages.segment import EmbeddedSegment, PictureSegment, TextSegment

DIMENSIONS = 8


def _shared(chunks: int, name: str, kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    hashes = [text_hash(f"{name} {i}") for i in range(chunks)]
    where = f"/corpus/{name}"
    return {
        "attempt": 1,
        "ordinal": 0,
        "after": -1,
        "checkpoint": "",
        "source": where,
        "media_type": "text/plain" if kind == "text" else "image/png",
        "page": None,
        "mtime_ns": 1_709_209_815_123_456_789,
        "file_size": 4096,
        "size": 1000,
        "maybe_present": False,
        "ids": [record_id(where, None, i, i + 1, h, "chunker", "model") for i, h in enumerate(hashes)],
        "hashes": hashes,
        **values,
    }


def make_segment(chunks: int = 3, name: str = "file", *, with_ids: bool = True, **values: Any) -> TextSegment:
    """A segment whose chunk i is the text "name i" and the ids [1, i, 2]; `values` replace others."""
    ids = [np.array([1, i, 2], np.int32) for i in range(chunks)]
    columns = {
        "starts": list(range(chunks)),
        "ends": list(range(1, chunks + 1)),
        "texts": [f"{name} {i}" for i in range(chunks)],
        "lengths": [3] * chunks,
        "token_ids": np.concatenate(ids) if chunks and with_ids else None,
    }
    return TextSegment(**_shared(chunks, name, "text", {**columns, **values}))


def make_picture(name: str = "file", **values: Any) -> PictureSegment:
    """A picture whose pixels are all the length of its name."""
    pixels = np.full((2, 2, 3), len(name), np.uint8)
    return PictureSegment(**_shared(1, name, "image", {"pixels": pixels, **values}))


def make_embedded(
    chunks: int = 3,
    name: str = "file",
    *,
    kind: Kind = "text",
    vectors: int | None = None,
    refused: Mapping[int, str] | None = None,
    **values: Any,
) -> EmbeddedSegment:
    """The same with vectors, one of all i for chunk i; or with so many `vectors`."""
    segment = make_segment(chunks, name, **values) if kind == "text" else make_picture(name, **values)
    count = chunks if vectors is None else vectors
    made = np.repeat(np.arange(count, dtype=np.float32)[:, None], DIMENSIONS, axis=1)
    return segment.embedded(made, refused or {})
