"""Records as the lines of a `_bulk` body, and search hits as rows.

Most of a load's client time is spent here, so values that many records share are encoded once, their
vectors as one matrix, and only the rest for each record.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import numpy as np
import orjson

from adapters.elasticsearch.mapping import PLAIN_FIELDS, VECTORS
from engine.records import FieldType, Record, Vector

#: Records whose lines are made at once: some vectors to make one matrix of, few bytes ahead of the sender.
BLOCK_RECORDS = 256

#: What records of one segment have in common.
_shared = attrgetter(
    "kind", "source", "document", "page", "title", "model", "indexed_at", "mtime", "size", "media_type",
    "fields",
)  # fmt: skip


def create_lines(records: Iterable[Record], base64: bool) -> Iterator[bytes]:
    """The two lines of each record's `create`, made a few records ahead.

    Vectors, finite and of one length for each kind, go as base64 of big-endian float32, else as the shortest
    text that is exact.
    """
    remaining = iter(records)
    while block := list(islice(remaining, BLOCK_RECORDS)):
        for shared, run in groupby(block, _shared):
            yield from _run_lines(shared, list(run), base64)


def _run_lines(shared: tuple[Any, ...], run: Sequence[Record], base64: bool) -> Iterator[bytes]:
    kind, source, document, page, title, model, indexed_at, mtime, size, media_type, fields = shared
    constant = {
        "source": source,
        "document": document,
        "kind": kind,
        "page": page,
        "title": title,
        f"{kind}_model": model,
        "indexed_at": indexed_at,
        "mtime": mtime,
        "size": size,
        "media_type": media_type,
        **fields,
    }
    known = {name: value for name, value in constant.items() if value is not None}
    # Closes the line of a record: everything after its own values.
    quote = b'"' if base64 else b""
    tail = quote + b"," + orjson.dumps(known)[1:] + b"\n"
    vectors = _encoded([record.embedding for record in run], base64)
    name = b'","%b_embedding":%b' % (kind.encode(), quote)
    dumps = orjson.dumps
    for record, vector in zip(run, vectors, strict=True):
        key = dumps(record.id)
        if record.text is None or record.start is None or record.end is None:
            place = b""
        else:
            place = b',"start":%d,"end":%d,"text":%b' % (record.start, record.end, dumps(record.text))
        if record.headings is not None:
            place += b',"headings":%b' % dumps(record.headings)
        yield b"".join(
            (
                b'{"create":{"_id":', key, b'}}\n{"id":', key, b',"position":%d' % record.position, place,
                b',"content_hash":"', record.content_hash.encode(), name, vector, tail,
            )
        )  # fmt: skip


def _encoded(vectors: Sequence[Any], base64: bool) -> Iterator[bytes]:
    """Each vector as JSON; what is base64 lacks its quotes, for they cost a copy here."""
    matrix = np.concatenate(vectors).reshape(len(vectors), -1)
    if not base64:
        for row in matrix:
            yield orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)
        return
    packed = memoryview(matrix.astype(">f4").tobytes())
    width = len(packed) // len(vectors)
    for start in range(0, len(packed), width):
        yield binascii.b2a_base64(packed[start : start + width], newline=False)


def delete_line(record_id: str) -> bytes:
    """The line of one `delete` in a `_bulk` body."""
    return b'{"delete":{"_id":' + orjson.dumps(record_id) + b"}}\n"


def row_of(
    hit: Mapping[str, Any], fields: Iterable[tuple[str, FieldType]], with_embeddings: bool
) -> dict[str, object]:
    """One search hit as `scan` gives it, with the user's own `fields`."""
    source = hit.get("_source") or {}
    row: dict[str, object] = {name: source.get(name) for name in PLAIN_FIELDS}
    row["id"] = hit["_id"]
    for name in ("indexed_at", "mtime"):
        row[name] = _time(source.get(name))
    for name, kind in fields:
        value = source.get(name)
        if value is not None and kind == "timestamp":
            value = _time(value)
        elif value is not None and kind == "strings":
            value = tuple(value) if isinstance(value, list) else (value,)
        elif value is not None and kind == "float":
            value = float(value)
        row[name] = value
    if with_embeddings:
        found = hit.get("fields", {})
        for name in VECTORS:
            row[name] = _vector(found[name]) if name in found else None
    return row


def _time(value: object) -> datetime | None:
    """A time as this engine writes it; other writers have other forms, which are none of ours."""
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError:
        return None


def _vector(values: Sequence[Any]) -> Vector:
    """A vector field's values: numbers, or the one base64 text that was written."""
    if isinstance(values[0], str):
        return np.frombuffer(binascii.a2b_base64(values[0]), ">f4").astype(np.float32)
    return np.array(values, np.float32)
