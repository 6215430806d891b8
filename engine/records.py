"""The typed records that stages hand to each other and to the database.

A source lists *items* (a file, an object); an item holds one *document* or several (rows, members); a
document is parsed into *sections* (a page, a run of text, a picture); a section is cut into *chunks*; the
chunks of one section travel together as one or more *segments*; each chunk becomes one *record*.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import UsageError

#: Version of the record's fields and of the id formula; part of an index's schema.
SCHEMA_VERSION = 2

#: What stands between two headings of a path.
HEADINGS_SEPARATOR = " > "

#: Hexadecimal digits of a record id: 128 bits of SHA-256, so that 10^12 records collide with p < 10^-14.
ID_HEX_DIGITS = 32

#: The leading digits of an id that the record's own fields decide, whatever its vector was pooled from.
CHECKED_ID_DIGITS = ID_HEX_DIGITS // 2

#: The file by which a folder that the engine has made is known, and what it says.
OUTPUT_MARKER = ".engine-output"
OUTPUT_NOTE = "Made by the vector streaming engine, which never indexes what is in this folder.\n"

#: Names that a constant field (`--field name=value`) can't take.
RECORD_FIELDS = (
    "id", "source", "document", "kind", "page", "position", "start", "end", "text", "title", "headings",
    "text_embedding", "image_embedding", "content_hash", "text_model", "image_model", "indexed_at", "mtime",
    "size", "media_type",
)  # fmt: skip

Kind: TypeAlias = Literal["text", "image"]
#: A value of a field that is not the record's own: constant (`--field`) or carried from a row.
FieldValue: TypeAlias = str | int | float | bool | datetime | tuple[str, ...]
#: Its type: every record of an index has the same for a field. Integers have 64 bits, floats are finite,
#: timestamps aware; `strings` is a list of strings.
FieldType: TypeAlias = Literal["string", "integer", "float", "boolean", "timestamp", "strings"]
#: Value of a chunker's option.
OptionValue: TypeAlias = str | int | float | bool
Vector: TypeAlias = npt.NDArray[np.float32]
Pixels: TypeAlias = npt.NDArray[np.uint8]
TokenIds: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TextSection:
    """A run of one document's extracted text, at most about 256 Ki characters, that is chunked alone.

    `unit` counts the sections of the file upwards from 0 (gaps are allowed, order is not broken); `start` is
    the offset of `text[0]` in the extracted text of the page (of the file where there are no pages);
    `resume` is the parser's own token with which it can go on right after this section; `replaced` counts the
    characters that are U+FFFD because the file's bytes could not be decoded.

    `document` names the document inside an item that holds several (None: the item is one document); `title`
    is that document's. `headings` are the headings inside this section as (offset in `text`, path): from that
    offset on the path of headings above the text is this one, outermost first; text before the first offset
    has none. `fields` are the document's own typed values.
    """

    unit: int
    page: int | None
    start: int
    text: str
    resume: str
    replaced: int = 0
    document: str | None = None
    title: str | None = None
    headings: tuple[tuple[int, tuple[str, ...]], ...] = ()
    fields: Mapping[str, FieldValue] = field(default_factory=dict)

    def headings_at(self, offset: int) -> str | None:
        """The path of headings above that offset of `text`, joined by " > "; None where there is none."""
        number = bisect_right(self.headings, offset, key=itemgetter(0))
        return HEADINGS_SEPARATOR.join(self.headings[number - 1][1]) or None if number else None


@dataclass(frozen=True, slots=True)
class PictureSection:
    """One picture at the image model's own size: `pixels` is uint8 [height, width, 3], upright RGB.

    `content_hash` is the SHA-256 (hex) of what the picture was decoded from: the file's bytes; `truncated`
    says that they end too early, or are damaged, and that a part of the picture is missing.
    """

    unit: int
    page: int | None
    pixels: Pixels
    content_hash: str
    resume: str
    truncated: bool = False
    document: str | None = None
    title: str | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SectionFailure:
    """A page, frame or document that can't be parsed, while the rest of its item can."""

    unit: int
    page: int | None
    error_type: str
    message: str
    document: str | None = None


Section: TypeAlias = TextSection | PictureSection | SectionFailure


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded: `text == section.text[start:end]`.

    `token_ids` is the model's whole input, int32 [n]: prompt and special tokens included. It is None for a
    model that takes text. `context` is the digest (hex) of all that the vector depends on besides the text,
    None where that is nothing.
    """

    start: int
    end: int
    text: str
    token_ids: TokenIds | None
    tokens: int
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A chunk in the database. Exactly one embedding, float32 [dimensions], named by `kind`."""

    id: str
    source: str
    kind: Kind
    page: int | None
    position: int
    start: int | None
    end: int | None
    text: str | None
    embedding: Vector
    content_hash: str
    model: str
    indexed_at: datetime
    mtime: datetime
    size: int
    media_type: str
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    document: str | None = None
    title: str | None = None
    headings: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result; `score` grows with likeness (cosine similarity for normalised vectors)."""

    id: str
    source: str
    kind: Kind
    page: int | None
    score: float
    text: str | None
    document: str | None = None
    title: str | None = None
    headings: str | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an index remembers of a model: enough to load it again and to refuse another."""

    name: str
    digest: str
    dimensions: int
    normalized: bool


@dataclass(frozen=True, slots=True)
class ChunkerChoice:
    """The chunker that a user asks for, by name; `options` are its options as words.

    `size` (tokens, None: the chunker's default) and `overlap` (tokens, 0: likewise) are the options of these
    names, which have flags of their own.
    """

    name: str
    size: int | None = None
    overlap: int = 0
    options: tuple[tuple[str, str], ...] = ()

    def given(self) -> dict[str, str]:
        """Every option that was given. Raises `UsageError` for one that was given twice."""
        flags = {"size": self.size, "overlap": self.overlap or None}
        pairs = [(name, str(value)) for name, value in flags.items() if value is not None]
        given: dict[str, str] = {}
        for name, value in (*pairs, *self.options):
            if name in given:
                raise UsageError(
                    f"--chunker-option {name}={value}: {name} is given twice, first as {given[name]}"
                )
            given[name] = value
        return given


@dataclass(frozen=True, slots=True)
class ChunkerIdentity:
    """What decides where a chunker cuts, and so the ids of its records: equal identities cut equally.

    `options` are the settings in force (defaults filled in), by name; `version` changes with the algorithm.
    `key` is the word for all of it in record ids and in the ledger: it holds no blank space.
    """

    name: str
    options: tuple[tuple[str, OptionValue], ...]
    version: str
    key: str

    @staticmethod
    def from_key(key: str) -> ChunkerIdentity:
        """The identity in an index of version 1, which holds the key alone: `NAME=SIZE,OPTION=N,VERSION`.

        Of any other word it is the name too; the empty one says that nothing has been cut yet.
        """
        if not re.fullmatch(r"\w+=\d+(,\w+=\d+)*,\w+", key):
            return ChunkerIdentity(key, (), "", key)
        *pairs, version = key.split(",")
        (name, size), *others = (pair.split("=") for pair in pairs)
        options = (("size", int(size)), *((option, int(value)) for option, value in others))
        return ChunkerIdentity(name, options, version, key)


@dataclass(frozen=True, slots=True)
class IndexSchema:
    """What an index is made with. `None` for a model that no record needed yet.

    `fields` are those that are not the record's own, by name and type.
    """

    text_model: ModelInfo | None
    image_model: ModelInfo | None
    chunker: ChunkerIdentity
    fields: tuple[tuple[str, FieldType], ...] = ()
    version: int = SCHEMA_VERSION


def field_type(value: FieldValue) -> FieldType:
    """The type of a field's value."""
    if isinstance(value, bool):  # which is an integer to Python
        return "boolean"
    types: tuple[tuple[type, FieldType], ...] = (
        (str, "string"), (int, "integer"), (float, "float"), (datetime, "timestamp"),
    )  # fmt: skip
    return next((name for kind, name in types if isinstance(value, kind)), "strings")


def field_types(fields: Mapping[str, FieldValue]) -> tuple[tuple[str, FieldType], ...]:
    """The fields of an index whose records have such values."""
    return tuple((name, field_type(value)) for name, value in fields.items())


def record_id(
    source: str,
    page: int | None,
    start: int | None,
    end: int | None,
    content_hash: str,
    chunker: str,
    model_digest: str,
    document: str | None = None,
    context: str | None = None,
) -> str:
    """The record's id: a digest of what it is, so that any replay writes the same record again.

    `chunker` is the key of a `ChunkerIdentity`; `start` and `end` are None for a picture; `document` is None
    where the item is one document. The parts are joined by NUL, which none of them can contain. With a
    `context`, the digest of what a vector depends on besides its chunk, the second half of the id depends on
    it too: the first half can still be told from the record's fields, of which the context is none.
    """
    parts = [source, page, start, end, content_hash, chunker, model_digest]
    if document is not None:
        parts.append(document)
    plain = _digest(parts)
    return (
        plain
        if context is None
        else plain[:CHECKED_ID_DIGITS] + _digest([*parts, context])[CHECKED_ID_DIGITS:]
    )


def _digest(parts: Sequence[str | int | None]) -> str:
    joined = "\0".join("" if part is None else str(part) for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:ID_HEX_DIGITS]


def text_hash(text: str) -> str:
    """SHA-256 (hex) of the text in UTF-8; lone surrogates, which UTF-8 can't hold, pass through."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def source_of(path: str) -> str:
    """The `source` of a file: its absolute POSIX path, bytes that are not UTF-8 percent-escaped."""
    name = os.path.abspath(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return re.sub("[\udc80-\udcff]", lambda m: f"%{ord(m.group()) - 0xDC00:02X}", name)
    return name


def index_url(url: str) -> str:
    """What of an adapter URL names the index: all but the query, which holds the database's options."""
    return url.partition("?")[0]
