"""The parse stage: a file in, its segments out, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from engine import parsers
from engine.chunkers.base import Chunker
from engine.errors import EngineError, ParseError, SkipFileError
from engine.models.spec import ImageSpec, TextSpec
from engine.parsers.reading import Progress, hash_content, no_progress
from engine.records import (
    Chunk,
    Kind,
    PictureSection,
    SectionFailure,
    TextSection,
    TokenIds,
    record_id,
    text_hash,
)
from engine.sources import item_now, open_item
from engine.sources.base import Item, OpenedItem
from engine.stages.segment import (
    RECORD_OVERHEAD_BYTES,
    SEGMENT_BYTES,
    SUBS_PER_UNIT,
    Checkpoint,
    ParsedSegment,
    PictureSegment,
    TextSegment,
)

#: The rule of a file that needs more memory than its parser has.
OUT_OF_MEMORY_RULE = "out-of-memory"

#: Most characters of a title, and of a path of headings: a chunk's own text is about as long.
LABEL_CHARACTERS = 1000

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class FileJob:
    """A file to parse. What an earlier attempt got acknowledged is not made again: parsing goes on at
    `checkpoint`, after the segment `last`, and leaves out the segments in `done`.

    `known_hash` is the content's SHA-256 where nothing but the file's times may have changed.
    `maybe_present` says that an earlier attempt may have left records of this file in the database, `alone`
    that no other file shall be at work meanwhile.
    """

    attempt: int
    item: Item
    known_hash: str | None = None
    checkpoint: str | None = None
    last: int = -1
    done: frozenset[int] = field(default=frozenset())
    maybe_present: bool = False
    alone: bool = False


Outcome: TypeAlias = Literal["parsed", "unchanged", "skipped", "failed", "changed"]


@dataclass(slots=True)
class FileEnd:
    """How the parsing of a file ended. `segments` and `chunks` count what this attempt handed over.

    What of it is salvage, counted where this attempt read it: `replaced` characters that stand for bytes
    which could not be decoded, `truncated` pictures taken though a part of them is missing.
    """

    outcome: Outcome
    kind: Kind | None = None
    media_type: str = ""
    content_hash: str = ""
    segments: int = 0
    chunks: int = 0
    bytes_read: int = 0
    rule: str = ""
    message: str = ""
    replaced: int = 0
    truncated: int = 0


Parsed: TypeAlias = ParsedSegment | SectionFailure | FileEnd


@dataclass
class ParseStage:
    """What every file is parsed with. `image_spec` is asked for when the first picture is met.

    `on_progress` is called for each block that is hashed or decoded, each page and each frame, whether a
    segment comes of it or not; it must not raise.
    """

    text_spec: TextSpec
    chunker: Chunker
    image_spec: Callable[[], ImageSpec | None]
    exact_images: bool = False
    tolerate_truncated: bool = False
    on_progress: Progress | None = None

    def parse(self, job: FileJob) -> Iterator[Parsed]:
        """Segments in the file's order, failed sections between them, and a `FileEnd` last.

        Whatever is wrong with the file itself ends in its `FileEnd`; nothing is raised for it.
        """
        end = FileEnd("parsed")
        try:
            with open_item(job.item) as opened:
                yield from self._parse(job, opened, end)
        except _CallersError as error:
            raise error.raised from None
        except SkipFileError as error:
            end.outcome, end.rule, end.message = "skipped", error.rule, error.detail
        except ParseError as error:
            end.outcome, end.rule, end.message = "failed", error.error_type, str(error)
        except OSError as error:
            end.outcome, end.rule = "failed", "unreadable"
            end.message = (error.strerror or str(error)).lower()
        except MemoryError:
            end.outcome, end.rule = "failed", OUT_OF_MEMORY_RULE
            end.message = "parsing needs more than --parser-memory"
        # A file that is being written may well be empty or damaged for a moment.
        if (end.outcome == "failed" or end.rule == "empty") and _has_changed(job):
            end.outcome = "changed"
        yield end

    def _parse(
        self, job: FileJob, opened: OpenedItem, end: FileEnd
    ) -> Iterator[ParsedSegment | SectionFailure]:
        progress = self.on_progress or no_progress
        # Before all of it is read: what no parser takes may be a disk image.
        end.media_type = parsers.detect(opened, job.item.location)
        end.content_hash = hash_content(opened, progress)
        end.bytes_read = job.item.size
        if job.known_hash == end.content_hash:
            end.outcome = "unchanged"
            return
        end.kind = "text" if "text" in parsers.kinds_of(end.media_type) else "image"
        options = parsers.ParseOptions(
            self._asked_image_spec, self.exact_images, self.tolerate_truncated, progress
        )
        start = Checkpoint.loads(job.checkpoint) if job.checkpoint else Checkpoint()
        previous, found = job.last, job.last >= 0 or bool(job.done)
        for section in _guarded(parsers.parse(opened, end.media_type, options, start.resume)):
            if isinstance(section, SectionFailure):
                # No segment has this ordinal, so nothing is ever resumed from behind a failure: the section
                # may come in several segments when it is readable again.
                previous, found = (section.unit + 1) * SUBS_PER_UNIT - 1, True
                yield section
                start = Checkpoint()
                continue
            if isinstance(section, TextSection):
                end.replaced += section.replaced
            elif _has_changed(job):
                # Its pixels may not be those that were hashed, and would be taken for them in other files.
                end.outcome = "changed"
                return
            else:
                end.truncated += section.truncated
            for segment in self._segments(job, section, start, end.media_type, previous):
                found, previous = True, segment.ordinal
                if segment.ordinal not in job.done:
                    end.segments += 1
                    end.chunks += len(segment.ids)
                    yield segment
            start = Checkpoint(section.resume)
        if _has_changed(job):
            end.outcome = "changed"
        elif not found:
            raise SkipFileError("no-text")

    def _asked_image_spec(self) -> ImageSpec | None:
        """The image model, for a parser; what asking raises is no fault of the file."""
        try:
            return self.image_spec()
        except Exception as error:
            raise _CallersError(error) from None

    def _segments(
        self,
        job: FileJob,
        section: TextSection | PictureSection,
        start: Checkpoint,
        media_type: str,
        previous: int,
    ) -> Iterator[ParsedSegment]:
        """The section's segments from `start` on, after the ordinal `previous`: as many chunks in each as
        `SEGMENT_BYTES` lets."""
        if isinstance(section, PictureSection):
            if (spec := self.image_spec()) is not None:
                yield self._picture(job, section, media_type, spec, previous)
            return
        sub, done = start.sub, start.chunks
        shared = _shared_cost(section)
        batch: list[Chunk] = []
        size = shared
        sentinel: list[Chunk | None] = [None]
        for number, chunk in enumerate(chain(_guarded(self.chunker.chunks(section)), sentinel)):
            if number < start.chunks and chunk is not None:
                continue
            cost = self._cost(chunk, section) if chunk is not None else 0
            if batch and (chunk is None or size + cost > SEGMENT_BYTES):
                done += len(batch)
                inside = Checkpoint(start.resume, done, sub + 1)
                after = Checkpoint(section.resume) if chunk is None else inside
                segment = self._text(job, section, batch, sub, after, size, media_type, previous)
                previous = segment.ordinal
                yield segment
                batch, size, sub = [], shared, sub + 1
            if chunk is not None:
                batch.append(chunk)
                size += cost

    def _cost(self, chunk: Chunk, section: TextSection) -> int:
        headings = _label(section.headings_at(chunk.start)) if section.headings else None
        return (
            _size(chunk.text)
            + _size(headings or "")
            + 4 * (chunk.tokens + self.text_spec.dimensions)
            + RECORD_OVERHEAD_BYTES
        )

    def _text(
        self,
        job: FileJob,
        section: TextSection,
        chunks: list[Chunk],
        sub: int,
        after: Checkpoint,
        size: int,
        media_type: str,
        previous: int,
    ) -> TextSegment:
        where = (job.item.uri, section.page)
        made_by = (self.chunker.identity.key, self.text_spec.digest)
        starts = [section.start + chunk.start for chunk in chunks]
        ends = [section.start + chunk.end for chunk in chunks]
        hashes = [text_hash(chunk.text) for chunk in chunks]
        ids = [
            record_id(*where, start, end, content, *made_by, section.document, chunk.context)
            for start, end, content, chunk in zip(starts, ends, hashes, chunks, strict=True)
        ]
        token_ids: list[TokenIds] = [chunk.token_ids for chunk in chunks if chunk.token_ids is not None]
        return TextSegment(
            attempt=job.attempt,
            ordinal=section.unit * SUBS_PER_UNIT + sub,
            after=previous,
            checkpoint=after.dumps(),
            source=job.item.uri,
            media_type=media_type,
            page=section.page,
            mtime_ns=job.item.mtime_ns,
            file_size=job.item.size,
            size=size,
            maybe_present=job.maybe_present,
            ids=ids,
            hashes=hashes,
            starts=starts,
            ends=ends,
            texts=[chunk.text for chunk in chunks],
            lengths=[chunk.tokens for chunk in chunks],
            token_ids=np.concatenate(token_ids) if len(token_ids) == len(chunks) else None,
            contexts=[chunk.context for chunk in chunks] if any(chunk.context for chunk in chunks) else [],
            document=section.document,
            title=_label(section.title),
            headings=[_label(section.headings_at(c.start)) for c in chunks] if section.headings else [],
            fields=section.fields,
        )

    def _picture(
        self, job: FileJob, section: PictureSection, media_type: str, spec: ImageSpec, previous: int
    ) -> PictureSegment:
        place = (section.page, None, None, section.content_hash, "", spec.digest, section.document)
        return PictureSegment(
            attempt=job.attempt,
            ordinal=section.unit * SUBS_PER_UNIT,
            after=previous,
            checkpoint=Checkpoint(section.resume).dumps(),
            source=job.item.uri,
            media_type=media_type,
            page=section.page,
            mtime_ns=job.item.mtime_ns,
            file_size=job.item.size,
            size=section.pixels.nbytes + 4 * spec.dimensions + RECORD_OVERHEAD_BYTES + _shared_cost(section),
            maybe_present=job.maybe_present,
            ids=[record_id(job.item.uri, *place)],
            hashes=[section.content_hash],
            pixels=section.pixels,
            document=section.document,
            title=_label(section.title),
            fields=section.fields,
        )


class _CallersError(BaseException):
    """What the caller raised inside a parser; no library catches it."""

    def __init__(self, raised: Exception) -> None:
        super().__init__()
        self.raised = raised


def _label(text: str | None) -> str | None:
    """A title or a path of headings, which is in every record, no longer than a label may be."""
    if text is None or len(text) <= LABEL_CHARACTERS:
        return text
    return text[: LABEL_CHARACTERS - 1] + "…"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _shared_cost(section: TextSection | PictureSection) -> int:
    """Bytes of what all chunks of a section have in common, besides what every record takes."""
    values = (section.document, section.title, *section.fields.values())
    return sum(_size(str(value)) for value in values if value is not None)


def _guarded(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; what a library raises beyond its documentation fails the file, not the run."""
    try:
        yield from items
    except (EngineError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ParseError("parser-error", f"{type(error).__name__}: {error}") from error


def _has_changed(job: FileJob) -> bool:
    """Whether the item is another by now than it was found to be; one that is gone has not changed."""
    now = item_now(job.item)
    return now is not None and not now.same_content(job.item.size, job.item.version)
