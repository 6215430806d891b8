"""Parsers: one line for each format. What they promise is in `engine.parsers.base`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from engine.errors import UsageError
from engine.parsers.base import ParseOptions, Parser
from engine.parsers.detection import Detector
from engine.parsers.reading import LocalFile, Opened
from engine.records import Kind, Section
from engine.registry import Registry

__all__ = [
    "PARSERS",
    "LocalFile",
    "ParseOptions",
    "check",
    "detect",
    "help_text",
    "is_text",
    "kinds_of",
    "parse",
    "suffixes",
    "type_by_name",
]

#: General formats come first: where two parsers declare one suffix or media type, the later has it, and
#: those of other packages come after all of these.
PARSERS = Registry(
    "parsers",
    {
        "text": "engine.parsers.text:TextParser",
        "markdown": "engine.parsers.markdown:MarkdownParser",
        "html": "engine.parsers.html:HtmlParser",
        "image": "engine.parsers.image:ImageParser",
        "pdf": "engine.parsers.pdf:PdfParser",
    },
    base=Parser,
)


#: What becomes of a section of each kind.
_BECOMES: dict[Kind, str] = {"text": "texts, for the text model", "image": "pictures, for the image model"}


@cache
def _parsers() -> tuple[Parser, ...]:
    return tuple(PARSERS.get(name)() for name in PARSERS.names())


@cache
def _detector() -> Detector:
    return Detector([known for parser in _parsers() for known in parser.formats])


@cache
def _parser_of(media_type: str) -> Parser:
    for parser in reversed(_parsers()):
        if any(known.media_type == media_type for known in parser.formats):
            return parser
    raise UsageError(f"{media_type}: no parser reads it; parsers are {', '.join(PARSERS.names())}")


def check() -> None:
    """Load what every parser declares. Raises `UsageError` where one can't be loaded; called at preflight."""
    _parsers()


def detect(opened: Opened, name: str) -> str:
    """The media type of an item that some parser reads; `name` is its URI or path.

    Raises SkipFileError with the rule `empty` (no bytes) or `unknown-type` (its detail is the type, where
    that is known), and OSError.
    """
    return _detector().detect(opened, name)


def type_by_name(name: str) -> str:
    """The media type that an item's name promises; "" where it promises none. Nothing is opened."""
    return _detector().type_by_name(name)


def kinds_of(media_type: str) -> frozenset[Kind]:
    """The kinds of section that an item of this type may have: which models embed it."""
    return _parser_of(media_type).kinds


def is_text(media_type: str) -> bool:
    """Whether the beginning of such an item is an item of that type too; so for a type nobody declares."""
    return all(
        known.text for parser in _parsers() for known in parser.formats if known.media_type == media_type
    )


def help_text() -> str:
    """What `engine.run --help-formats` prints: for each parser, what becomes of its formats' items, and their
    media types with the suffixes."""
    lines = [
        "The content of a file decides what it is; suffixes tell kinds of text apart. Text with another",
        "suffix is text/plain. What no parser reads is skipped.",
    ]
    for parser in _parsers():
        lines += ["", f"{parser.name}: {' and '.join(sorted(_BECOMES[kind] for kind in parser.kinds))}"]
        for known in parser.formats:
            lines.append(
                f"  {known.media_type:<28} {' '.join(f'.{suffix}' for suffix in known.suffixes)}".rstrip()
            )
    return "\n".join(lines)


def suffixes(kind: Kind) -> list[str]:
    """The suffixes, without a dot, of formats whose sections are all of this kind."""
    return [
        suffix
        for parser in _parsers()
        if parser.kinds == {kind}
        for known in parser.formats
        for suffix in known.suffixes
    ]


def parse(
    opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
) -> Iterator[Section]:
    """The sections of an item whose type `detect` found, in order, as `Parser.parse` gives them."""
    return _parser_of(media_type).parse(opened, media_type, options, resume)
