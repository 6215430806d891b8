"""Segments for tests of the stages that come after parsing."""

from __future__ import annotations

import numpy as np

from engine.records import Kind, record_id, text_hash
from engine.stages.segment import Segment

DIMENSIONS = 8


def make_segment(
    chunks: int = 3,
    name: str = "file",
    *,
    kind: Kind = "text",
    with_ids: bool = True,
    with_vectors: bool = True,
    maybe_present: bool = False,
    size: int = 1000,
) -> Segment:
    """A segment whose chunk i is the text "name i", the ids [1, i, 2] and a vector of all i."""
    text = kind == "text"
    texts = [f"{name} {i}" for i in range(chunks)]
    hashes = [text_hash(each) for each in texts]
    ids = [record_id(f"/corpus/{name}", None, i, i + 1, h, "chunker", "model") for i, h in enumerate(hashes)]
    token_ids = np.concatenate([np.array([1, i, 2], np.int32) for i in range(chunks)]) if chunks else None
    vectors = np.repeat(np.arange(chunks, dtype=np.float32)[:, None], DIMENSIONS, axis=1)
    return Segment(
        attempt=1,
        ordinal=0,
        after=-1,
        checkpoint="",
        kind=kind,
        source=f"/corpus/{name}",
        media_type="text/plain" if text else "image/png",
        page=None,
        mtime_ns=1_709_209_815_123_456_789,
        file_size=4096,
        size=size,
        maybe_present=maybe_present,
        ids=ids,
        hashes=hashes,
        starts=list(range(chunks)) if text else [],
        ends=list(range(1, chunks + 1)) if text else [],
        texts=texts if text else [],
        lengths=[3] * chunks if text else [],
        token_ids=token_ids if text and with_ids else None,
        pixels=None if text else np.full((2, 2, 3), len(name), np.uint8),
        vectors=vectors if with_vectors else None,
    )
