"""The segment: what travels between the stages, is credited, acknowledged and checkpointed as one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

from engine.errors import HandOverError
from engine.records import FieldValue, Kind, Pixels, Record, TokenIds, Vector

#: Sub-segments of one section that an ordinal can tell apart: ordinal = unit × 2^20 + sub-segment.
SUBS_PER_UNIT = 2**20

#: Most bytes that a segment has on its way (a single larger chunk is not possible: 32 KiB of text).
SEGMENT_BYTES = 4 * 2**20

#: Bytes that a record takes besides text, token ids and vector: id, digest, offsets, objects around them.
RECORD_OVERHEAD_BYTES = 512


class Checkpoint(NamedTuple):
    """Where parsing goes on: `resume` is the parser's token (None: the file's start), then `chunks` chunks of
    the section that follows are done already, as `sub` sub-segments."""

    resume: str | None = None
    chunks: int = 0
    sub: int = 0

    def dumps(self) -> str:
        """As a string for the ledger."""
        return json.dumps(self)

    @staticmethod
    def loads(text: str) -> Checkpoint:
        """Back from the ledger."""
        return Checkpoint(*json.loads(text))


@dataclass(slots=True, eq=False)
class Segment:
    """Chunks of one section, column by column, on their way to the database.

    `attempt` is the dispatch that made it, `ordinal` its place in the file, `after` the ordinal before it
    (-1: none), `size` the most bytes that it takes between here and the acknowledgement. A text segment has
    `texts`, offsets and either `token_ids` (all in one int32 array, `lengths` long each) or None; a picture
    has `pixels`. `contexts` are the chunks' digests of what their vectors depend on besides their text, empty
    where that is nothing. The inference stage adds `vectors`, float32 [n, d], a row for each chunk, and in
    `refused`, by position, why a chunk's row is none that may be written.

    `document`, `title` and `fields` are those of the document that all chunks are from; `headings` has the
    path above each chunk, or is empty where none has one.
    """

    attempt: int
    ordinal: int
    after: int
    checkpoint: str
    kind: Kind
    source: str
    media_type: str
    page: int | None
    mtime_ns: int
    file_size: int
    size: int
    maybe_present: bool
    ids: list[str]
    hashes: list[str]
    starts: list[int]
    ends: list[int]
    texts: list[str]
    lengths: list[int]
    token_ids: TokenIds | None
    pixels: Pixels | None
    vectors: Vector | None = None
    refused: dict[int, str] = field(default_factory=dict)
    contexts: list[str | None] = field(default_factory=list)
    document: str | None = None
    title: str | None = None
    headings: list[str | None] = field(default_factory=list)
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    #: Where a picture stands that doesn't travel inside; whoever moves segments between processes knows what
    #: that means.
    place: object = None

    @property
    def tokens(self) -> int:
        """Tokens of all chunks; 0 for a picture."""
        return sum(self.lengths)

    def chunk_ids(self) -> list[TokenIds]:
        """The model's input for each chunk, as views of the one array."""
        if self.token_ids is None:
            return []
        ends = list(accumulate(self.lengths))
        return [self.token_ids[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]

    def records(self, model: str, indexed_at: datetime, fields: Mapping[str, FieldValue]) -> list[Record]:
        """The records that the database shall hold: those of all chunks but the refused.

        `fields` are the run's constant ones; they take the place of the document's own of the same name.
        Raises `HandOverError` where vectors and chunks differ in number.
        """
        if self.vectors is None or len(self.vectors) != len(self.ids):
            count = 0 if self.vectors is None else len(self.vectors)
            what = f"{count} vectors for {len(self.ids)} chunks ({self.source})"
            raise HandOverError("from the inference process to the indexer", what)
        mtime = datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)
        text = self.kind == "text"
        values = {**self.fields, **fields} if self.fields else fields
        return [
            Record(
                id=self.ids[i],
                source=self.source,
                kind=self.kind,
                page=self.page,
                position=i,
                start=self.starts[i] if text else None,
                end=self.ends[i] if text else None,
                text=self.texts[i] if text else None,
                embedding=self.vectors[i],
                content_hash=self.hashes[i],
                model=model,
                indexed_at=indexed_at,
                mtime=mtime,
                size=self.file_size,
                media_type=self.media_type,
                fields=values,
                document=self.document,
                title=self.title,
                headings=self.headings[i] if self.headings else None,
            )
            for i in range(len(self.ids))
            if i not in self.refused
        ]
