"""One call of the Python interface: the stages as generators in this process, without a ledger."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

import adapters
from adapters.base import Adapter
from engine import chunkers, parsers
from engine.api.arguments import arguments_named, in_python
from engine.api.embedding import (
    EmbeddingModel,
    EmbedSummary,
    Failure,
    TextEmbedConfig,
    the_config,
    warn,
)
from engine.api.progress import Progress
from engine.errors import DatabaseUnavailableError, EngineError, ParseError, SkipFileError, UsageError
from engine.models.spec import ImageSpec
from engine.records import IndexSchema, Kind, Record, SectionFailure, Vector, field_types
from engine.sources.base import Found, Item, LeftOut
from engine.stages.index import IndexStage, Written
from engine.stages.infer import InferStage
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import EmbeddedSegment, ParsedSegment, PictureSegment, TextSegment

#: Seconds that a database which stops answering is waited for; first and longest pause between two tries.
DATABASE_PATIENCE_S, FIRST_RETRY_S, LONGEST_RETRY_S = 60.0, 0.5, 8.0

OnFailure: TypeAlias = Callable[[Failure], None]
_Result = TypeVar("_Result")

log = logging.getLogger("engine")


class Call:
    """Files in, records out. Holds one window of chunks, and before a database one bulk write.

    `strict` raises what is wrong with a file, once the records that could be made of it are out; otherwise
    it is booked and the next file comes. Raises `UsageError` where the chunker's options don't fit the model.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        config: TextEmbedConfig | None,
        on_failure: OnFailure | None,
        strict: bool = False,
        pictures_only: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._model = model
        self._config = the_config(config)
        self._listeners = [on_failure] if on_failure is not None else []
        self._strict = strict
        self._pictures_only = pictures_only
        self._progress = progress or Progress(shown=False)
        self._chunker = chunkers.make(model.text, self._config.chunker_choice, self._embed_texts)
        self._parse = ParseStage(model.text, self._chunker, self._image_spec, self._config.exact_images)
        self._infer = InferStage(model.load_text, model.load_image)
        self._fields = dict(sorted(self._config.fields.items()))
        self._summary = EmbedSummary()
        self._error: EngineError | None = None
        #: The names under which records of each kind remember their model, once a database knows it.
        self._names: dict[Kind, str] = {}

    def records(self, found: Iterable[Found]) -> Iterator[Record]:
        """The records, one window embedded at a time; failures go to `on_failure`, or else are warnings."""
        self._listeners = self._listeners or [_warn_of]
        with arguments_named(), self._progress:
            for window in self._windows(found):
                now = datetime.now(UTC)
                for segment in window:
                    self._refuse(segment, "infer", segment.refused)
                    yield from segment.records(self._model_name(segment.kind), now, self._fields)
            if self._error is not None:
                raise self._error

    def stream(self, found: Iterable[Found], target: str | Adapter, kind: Kind) -> EmbedSummary:
        """Write the records; the index is made for the model of `kind` before anything is embedded."""
        started = time.monotonic()
        self._listeners.append(self._summary.failures.append)
        with self._progress, ExitStack() as stack:
            adapter = target
            if isinstance(adapter, str):
                adapter = stack.enter_context(closing(adapters.connect(adapter)))
            if not isinstance(adapter, Adapter):
                raise UsageError(f"adapter={adapter!r}: give the URL of a database, or an Adapter")
            self._prepare(adapter, kind)
            index = IndexStage(adapter, self._names, self._fields)
            try:
                for window in self._windows(found):
                    for segment in window:
                        self._prepare(adapter, segment.kind)
                        index.add(segment)
                        if index.due_in() == 0.0:
                            self._book(_retry_until_available(index.flush))
                self._book(_retry_until_available(index.flush))
            except BaseException:
                # What is written already can be searched, whatever went wrong.
                with suppress(EngineError):
                    adapter.publish()
                raise
            _retry_until_available(adapter.publish)
        if self._error is not None:
            raise self._error
        self._summary.seconds = time.monotonic() - started
        return self._summary

    def _prepare(self, adapter: Adapter, kind: Kind) -> None:
        """Make the index for the models needed so far, or check that it fits them."""
        if kind in self._names:
            return
        if not self._names:
            existing = adapter.schema()
            # An index that has pictures is checked for all that may come, not at the first picture.
            if existing is not None and existing.image_model and self._config.images and not self._strict:
                self._names["image"] = self._model.image.name
        self._names[kind] = self._model_name(kind)
        text = self._model.text.info if "text" in self._names else None
        image = self._model.image.info if "image" in self._names else None
        adapter.ensure_schema(IndexSchema(text, image, self._chunker.identity, field_types(self._fields)))
        adapter.prepare()

    def _model_name(self, kind: Kind) -> str:
        return self._model.text.name if kind == "text" else self._model.image.name

    def _embed_texts(self, texts: Sequence[str]) -> Vector:
        with self._model.lock:
            return self._model.load_text().embed_texts(texts)

    def _image_spec(self) -> ImageSpec | None:
        return self._model.image if self._config.images or self._pictures_only else None

    def _windows(self, found: Iterable[Found]) -> Iterator[list[EmbeddedSegment]]:
        """Embedded segments, about as many chunks at a time as the buffer holds."""
        window: list[ParsedSegment] = []
        chunks = 0
        for segment in self._segments(found):
            window.append(segment)
            chunks += len(segment.ids)
            if chunks >= self._config.buffer_size:
                yield self._embedded(window)
                window, chunks = [], 0
        if window:
            yield self._embedded(window)

    def _embedded(self, window: list[ParsedSegment]) -> list[EmbeddedSegment]:
        with self._model.lock:
            made = self._infer.embed(window)
        for segment, tokens, _ in made:
            self._summary.tokens += tokens
            if segment.kind == "text":
                self._summary.text += len(segment.ids)
            else:
                self._summary.image += len(segment.ids)
        return [each.segment for each in made]

    def _segments(self, found: Iterable[Found]) -> Iterator[ParsedSegment]:
        for item in found:
            if isinstance(item, LeftOut):
                self._close(item.uri, SkipFileError(item.rule, item.detail))
            elif not isinstance(item, Item):
                self._close(item.uri, ParseError("unreadable", item.message), "discover")
            elif self._pictures_only and _is_text(item.location):
                self._close(item.uri, SkipFileError("not-a-picture"))
            else:
                self._progress.on(item, self._summary.tokens)
                yield from self._item(item)
                self._progress.done(item)

    def _item(self, item: Item) -> Iterator[ParsedSegment]:
        # Without a ledger nobody knows what the index holds of this item.
        job = FileJob(0, item, maybe_present=True)
        failures: list[SectionFailure] = []
        for part in self._parse.parse(job):
            if isinstance(part, TextSegment | PictureSegment):
                yield part
            elif isinstance(part, SectionFailure):
                failures = failures or [part]
                self._fail(Failure(item.uri, part.page, "parse", part.error_type, part.message))
            else:
                self._summary.files += part.chunks > 0
                error = _error_of(part)
                if error is not None:
                    self._close(item.uri, error)
                elif failures and not part.chunks and self._strict:
                    self._close(item.uri, ParseError(failures[0].error_type, failures[0].message))

    def _close(self, source: str, error: ParseError | SkipFileError, stage: str = "parse") -> None:
        """Book a file that was left out, or failed in whole."""
        if self._strict:
            if isinstance(error, SkipFileError):
                self._error = SkipFileError(error.rule, f"{source} {error.detail}".rstrip())
            else:
                self._error = ParseError(error.error_type, f"{source}: {error}")
        elif isinstance(error, SkipFileError):
            log.info("%s: skipped: %s", source, error)
            self._summary.skipped[error.rule] = self._summary.skipped.get(error.rule, 0) + 1
        else:
            self._fail(Failure(source, None, stage, error.error_type, str(error)))

    def _fail(self, failure: Failure) -> None:
        failure = replace(failure, message=in_python(failure.message))
        for tell in self._listeners:
            tell(failure)

    def _book(self, results: list[Written]) -> None:
        """Book what the database made of some segments."""
        for result in results:
            segment, refused = result.segment, result.refused
            self._summary.records += len(segment.ids) - len(refused)
            self._refuse(segment, "infer", segment.refused)
            by_database = {place: refused[place] for place in refused if place not in segment.refused}
            self._refuse(segment, "index", by_database)

    def _refuse(self, segment: EmbeddedSegment, stage: str, reasons: Mapping[int, str]) -> None:
        if reasons:
            position, reason = next(iter(reasons.items()))
            message = (
                f"{len(reasons)} of {len(segment.ids)} records, the first at position {position}: {reason}"
            )
            self._fail(Failure(segment.source, segment.page, stage, "refused", message))


def _error_of(end: FileEnd) -> ParseError | SkipFileError | None:
    """What is wrong with the file as a whole."""
    if end.outcome == "skipped":
        return SkipFileError(end.rule, end.message)
    if end.outcome == "changed":
        return ParseError("changed-while-read", "it changed while it was read; embed it again")
    return ParseError(end.rule, end.message) if end.outcome == "failed" else None


def _is_text(path: str) -> bool:
    """Whether the content is of a type that the text model embeds; anything doubtful is for the parser."""
    with suppress(OSError, SkipFileError):
        return "text" in parsers.kinds_of(parsers.detect(parsers.LocalFile(path), path))
    return False


def _warn_of(failure: Failure) -> None:
    warn(str(failure))


def _retry_until_available(call: Callable[[], _Result]) -> _Result:
    """Call until the database answers. Raises `DatabaseUnavailableError` where it doesn't for too long."""
    deadline = time.monotonic() + DATABASE_PATIENCE_S
    pause = FIRST_RETRY_S
    while True:
        try:
            return call()
        except DatabaseUnavailableError:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_RETRY_S)
