"""The contract of a parser: the content of an item in, the sections of its documents out.

A format is one module with a subclass of `Parser`, and one line in `engine.parsers.PARSERS` (or an entry
point of the group `vector_streaming_engine.parsers`). All that the engine knows of the format is declared
there; `tests/parsers/contract.py` proves the rest, and each format's test subclasses it:

- **Lazy.** A parser's module loads no library of its format; `parse` does, when the first item is met.
  Nothing is read before the first section is asked for.
- **Ordered.** The `unit` of sections and failures grows. It depends on the content and on nothing else, so
  that a page that fails once moves no other page's units.
- **Resumable.** With `resume`, the token of a section, `parse` yields exactly what follows that section
  without it: texts, offsets, title, headings and counts. It may have to read the item again from its start.
- **Bounded.** A text section has at most `sections.MAX_SECTION_CHARS` characters. Memory does not grow with
  the item, or the item fails with an error that names the limit. `options.progress` is called for each block,
  page or frame that is read, whether anything comes of it or not; with the share that has been read of the
  item, where the format can tell.
- **Storable.** Text has no NUL and no lone surrogate; `text == extracted[start : start + len(text)]`, where
  `extracted` is the text of the page (of the document, where there are no pages).
- **Documents.** Sections of one document follow each other, and all have its `title`. Headings that began in
  an earlier section are the first of the next. `document` names it where an item holds several.
- **Errors.** `ParseError` (the rest of the item can't be had), `SkipFileError` (a rule leaves it out),
  `OSError` and `MemoryError`; a page or document that fails alone is a `SectionFailure`. Damaged content
  raises nothing else, and ends in bounded time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

from engine.models.spec import ImageSpec
from engine.parsers.encoding import HEAD_BYTES, encoding_of
from engine.parsers.reading import Opened, Progress, no_progress
from engine.records import Kind, Section

#: In what a magic is looked for: in everything and first of all; in what is text, or what is not; last, in
#: what is not text and fits nothing else, known to a parser or not.
Where: TypeAlias = Literal["anything", "text", "binary", "unknown"]


@dataclass(frozen=True)
class Head:
    """What detection knows of an item: its first `HEAD_BYTES` bytes and the suffix of its name (`.pdf`)."""

    data: bytes
    suffix: str

    @cached_property
    def text(self) -> str:
        """The same decoded, as well as it can be; of use only where the item is text."""
        whole = len(self.data) < HEAD_BYTES
        return self.data.decode(encoding_of(self.data, whole), "replace").lstrip("\ufeff")


@dataclass(frozen=True, slots=True)
class Magic:
    """What shows in an item's head that it is of a format: `data` at `offset`, or what `found` finds."""

    data: bytes = b""
    offset: int = 0
    found: Callable[[Head], bool] | None = None
    where: Where = "binary"

    def matches(self, head: Head) -> bool:
        """Whether it is there."""
        return head.data.startswith(self.data, self.offset) if self.found is None else self.found(head)


@dataclass(frozen=True, slots=True)
class Format:
    """One media type that a parser reads, and how items of it are known.

    Content decides: a type is what one of its `magic` finds. `suffixes`, lower case without a dot, tell one
    kind of `text` from another where no magic does (and if `confirm` agrees); of other types they only say
    what a name promises.
    """

    media_type: str
    suffixes: tuple[str, ...] = ()
    magic: tuple[Magic, ...] = ()
    text: bool = False
    confirm: Callable[[Head], bool] | None = None


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What parsers need to know of the run.

    `image_spec` tells what pictures are made into, None where they are left out; it is asked when the first
    picture is met. `exact_images` decodes JPEGs in full, so that vectors equal open_clip's to rounding.
    `tolerate_truncated` takes what there is of a picture that ends too early. `progress` is described above.
    """

    image_spec: Callable[[], ImageSpec | None] = lambda: None
    exact_images: bool = False
    tolerate_truncated: bool = False
    progress: Progress = no_progress


class Parser(ABC):
    """Parses the formats that it declares. Made without arguments, once in each process."""

    #: The name in the registry.
    name: ClassVar[str]
    formats: ClassVar[tuple[Format, ...]]
    #: The kinds of section that it yields: which models embed them.
    kinds: ClassVar[frozenset[Kind]]

    @abstractmethod
    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[Section]:
        """The sections of an item of that type, in order; with `resume`, those behind the token's section."""
