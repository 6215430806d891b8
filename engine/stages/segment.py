"""The segment: what travels between the stages, is credited, acknowledged and checkpointed as one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, ClassVar, NamedTuple, TypeAlias

from engine.errors import HandOverError
from engine.records import FieldValue, Kind, Pixels, Record, TokenIds, Vector

#: Sub-segments of one section that an ordinal can tell apart: ordinal = unit × 2^20 + sub-segment.
SUBS_PER_UNIT = 2**20

#: Most bytes that a segment has on its way (a single larger chunk is not possible: 32 KiB of text).
SEGMENT_BYTES = 4 * 2**20

#: Bytes that a record takes besides text, token ids and vector: id, digest, offsets, objects around them.
RECORD_OVERHEAD_BYTES = 512

#: No chunk of a segment is refused.
NOTHING_REFUSED: Mapping[int, str] = {}


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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Segment:
    """Chunks of one section, column by column, on their way to the database. What all forms of it have.

    A parser makes a `TextSegment` or a `PictureSegment`; the model makes an `EmbeddedSegment` of it. None of
    them changes once it is made.

    `attempt` is the dispatch that made it, `ordinal` its place in the file, `after` the ordinal before it
    (-1: none), `size` the most bytes that it takes between here and the acknowledgement. `document`, `title`
    and `fields` are those of the document that all chunks are from.
    """

    kind: ClassVar[Kind]

    attempt: int
    ordinal: int
    after: int
    checkpoint: str
    source: str
    media_type: str
    page: int | None
    mtime_ns: int
    file_size: int
    size: int
    maybe_present: bool
    ids: Sequence[str]
    hashes: Sequence[str]
    document: str | None = None
    title: str | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)

    def shared(self) -> dict[str, Any]:
        """The values of all that every form has, by name."""
        return {name: getattr(self, name) for name in _SHARED}


_SHARED = tuple(each.name for each in fields(Segment))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextSegment(Segment):
    """Texts, with their offsets and the model's input: `token_ids` are all in one int32 array, `lengths` long
    each, or None. `headings` has the path above each chunk, or is empty where none has one. `contexts` are
    the digests of what the vectors depend on besides the text, empty where that is nothing."""

    kind = "text"

    starts: Sequence[int]
    ends: Sequence[int]
    texts: Sequence[str]
    lengths: Sequence[int]
    token_ids: TokenIds | None
    headings: Sequence[str | None] = ()
    contexts: Sequence[str | None] = ()

    @property
    def tokens(self) -> int:
        """Tokens of all chunks."""
        return sum(self.lengths)

    def chunk_ids(self) -> list[TokenIds]:
        """The model's input for each chunk, as views of the one array."""
        if self.token_ids is None:
            return []
        ends = list(accumulate(self.lengths))
        return [self.token_ids[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]

    def embedded(self, vectors: Vector, refused: Mapping[int, str] = NOTHING_REFUSED) -> EmbeddedText:
        """The same chunks with their vectors, see `EmbeddedSegment`, and without the model's input."""
        return EmbeddedText(
            **self.shared(),
            vectors=vectors,
            refused=refused,
            starts=self.starts,
            ends=self.ends,
            texts=self.texts,
            headings=self.headings,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PictureSegment(Segment):
    """One picture, uint8 [height, width, 3]."""

    kind = "image"

    pixels: Pixels

    @property
    def tokens(self) -> int:
        """None."""
        return 0

    def embedded(self, vectors: Vector, refused: Mapping[int, str] = NOTHING_REFUSED) -> EmbeddedPicture:
        """The picture's vector, see `EmbeddedSegment`, without its pixels."""
        return EmbeddedPicture(**self.shared(), vectors=vectors, refused=refused)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EmbeddedSegment(Segment):
    """`vectors`, float32 [n, d], has a row for each chunk; `refused`, by position, why this vector is
    rejected (not finite, input too large)."""

    vectors: Vector
    refused: Mapping[int, str]

    def records(self, model: str, indexed_at: datetime, fields: Mapping[str, FieldValue]) -> list[Record]:
        """The records that the database shall hold: those of all chunks but the refused.

        `fields` are the run's constant ones; they take the place of the document's own of the same name.
        Raises `HandOverError` where vectors and chunks differ in number.
        """
        if len(self.vectors) != len(self.ids):
            what = f"{len(self.vectors)} vectors for {len(self.ids)} chunks ({self.source})"
            raise HandOverError("from the inference process to the indexer", what)
        mtime = datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)
        values = {**self.fields, **fields} if self.fields else fields
        return [
            Record(
                id=self.ids[i],
                source=self.source,
                kind=self.kind,
                page=self.page,
                position=i,
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
                **self._columns(i),
            )
            for i in range(len(self.ids))
            if i not in self.refused
        ]

    def _columns(self, position: int) -> dict[str, Any]:
        """What a record of this form has of its own."""
        return {"start": None, "end": None, "text": None, "headings": None}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EmbeddedText(EmbeddedSegment):
    """Texts and their vectors."""

    kind = "text"

    starts: Sequence[int]
    ends: Sequence[int]
    texts: Sequence[str]
    headings: Sequence[str | None] = ()

    def _columns(self, position: int) -> dict[str, Any]:
        return {
            "start": self.starts[position],
            "end": self.ends[position],
            "text": self.texts[position],
            "headings": self.headings[position] if self.headings else None,
        }


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EmbeddedPicture(EmbeddedSegment):
    """A picture's vector."""

    kind = "image"


#: What leaves a parser.
ParsedSegment: TypeAlias = TextSegment | PictureSegment
