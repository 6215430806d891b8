"""HTML of any size: the main text of a page by trafilatura, or all its text where that leaves too little."""

from __future__ import annotations

import codecs
import io
import logging
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import BinaryIO

import trafilatura
from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

from engine.errors import ParseError
from engine.parsers.encoding import MARK_UNDECODABLE, UNDECODABLE, byte_order_mark, find_encoding
from engine.parsers.html.page_text import PageText, texts
from engine.parsers.outline import Outline, one_line
from engine.parsers.reading import Opened, Progress, no_progress
from engine.parsers.sections import cut_pieces, encodable, from_token, to_token
from engine.records import TextSection

#: Largest file whose main text is looked for, in bytes: that takes it whole, and a tree of it.
MAX_MAIN_TEXT_BYTES = 32 * 1024 * 1024

#: Largest page that the main text is looked for in, in characters: that takes 4 s and 200 MiB already.
MAX_MAIN_TEXT_PAGE = 1024 * 1024

#: The same in elements. Measured: cells and rows of a table take it a time that grows with their square.
MAX_MAIN_TEXT_ELEMENTS = 20_000

#: A tag longer than this, in characters, is read without its attributes: libxml2 compares each with all the
#: others of its tag.
MAX_TAG = 16 * 1024

#: Below this many characters trafilatura itself only guesses (its MIN_EXTRACTED_SIZE), and loses tables.
MIN_MAIN_TEXT = 250

#: Share of the page's text below which the main text is taken to be a miss.
MIN_MAIN_SHARE = 0.25

#: How much is read and decoded at once, in bytes.
BLOCK_BYTES = 128 * 1024

#: Where a declaration of the character set is looked for, in bytes.
DECLARATION_BYTES = 4096

# What it can't make out it logs; without a handler, logging prints that on the terminal.
logging.getLogger("trafilatura").addHandler(logging.NullHandler())

_DECLARED = re.compile(rb"<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.I)

_LONG_TAG = re.compile(rf"<([a-z][a-z0-9]*)(?=[\s/])[^<>]{{{MAX_TAG},}}", re.I)

# As browsers do (WHATWG Encoding): Latin-1 is a name for cp1252.
_DECLARED_AS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252"}

# Python's own, which no browser knows; some take a time that grows with the square of the text.
_NOT_OF_PAGES = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})

# What comes behind these belongs to the page all the same (WHATWG HTML, 13.2.6.4.19), but not for libxml2.
_PAGE_END = re.compile(r"</(?:body|html)[\t\n\f\r ]*>", re.I)


def sections(opened: Opened, progress: Progress, resume: str | None = None) -> Iterator[TextSection]:
    """The sections of a page's text. A resumed parse reads the page from its beginning once more.

    Raises ParseError `html-too-deep` or `damaged-html`, and OSError.
    """
    at = from_token(resume) if resume else {}
    unit, counted = int(at.get("unit", 0)), int(at.get("replaced", 0))
    with opened.stream() as file:
        encoding, mark = str(at.get("encoding", "")), int(at.get("mark", 0))
        if not encoding:
            encoding, mark = find_page_encoding(file, progress)
        markup = _Markup(file, encoding, mark, progress)
        page = Page(markup.pieces, file.seek(0, io.SEEK_END), progress)
        first = int(at.get("start", 0))
        for start, text in cut_pieces(page.texts(), first):
            if start == first:
                page.outline.take(0, start)
            unit += 1
            end = start + len(text)
            token = to_token(unit=unit, start=end, encoding=encoding, mark=mark, replaced=markup.replaced)
            yield TextSection(
                unit - 1,
                None,
                start,
                text,
                token,
                markup.replaced - counted,
                title=page.title,
                headings=page.outline.take(start, end),
            )
            counted = markup.replaced


class Page:
    """A page of `size` bytes; `markup` begins to read it, in pieces.

    The main text is taken where it has `MIN_MAIN_TEXT` characters and `MIN_MAIN_SHARE` of the page's, and
    isn't looked for in pages that are too large.
    """

    def __init__(
        self, markup: Callable[[], Iterator[str]], size: int, progress: Progress = no_progress
    ) -> None:
        self._markup, self._size, self._progress = markup, size, progress
        #: The title element's text, or else the first h1; known with the first piece of text.
        self.title: str | None = None
        #: The headings in the text as far as it has been read.
        self.outline = Outline()

    def texts(self) -> Iterator[str]:
        """The page's text in pieces. Raises ParseError."""
        page = PageText()
        pieces = texts(self._markup(), page)
        held, length, whole = [], 0, True
        for piece in pieces:
            held.append(piece)
            length += len(piece)
            if length > MAX_MAIN_TEXT_PAGE or page.elements > MAX_MAIN_TEXT_ELEMENTS:
                whole = False
                break
        headings = page.outline.coming
        self.title = page.title or page.outline.first()
        self.outline = page.outline
        text = "".join(held)
        if whole and text and self._size <= MAX_MAIN_TEXT_BYTES:
            main = _main_text("".join(self._markup()), text, self._progress)
            if main != text:
                self.outline = _headings_in(main, headings)
            text = main
        yield text
        yield from pieces


def find_page_encoding(file: BinaryIO, progress: Progress = no_progress) -> tuple[str, int]:
    """The encoding of a page and the length of its mark in bytes. Moves the file's position.

    By its mark, else its own declaration if that fits all of it, else as text is decoded.
    """
    file.seek(0)
    head = file.read(DECLARATION_BYTES)
    if not byte_order_mark(head)[0] and (declared := _DECLARED.search(head)):
        name = declared.group(1).decode("ascii", "replace").lower()
        # Bytes that show a declaration to this search aren't in UTF-16.
        name = "utf-8" if name.startswith(("utf-16", "utf-32")) else _DECLARED_AS.get(name, name)
        try:
            b"<html>".decode(name)  # refuses what is a codec and no character set
            if codecs.lookup(name).name not in _NOT_OF_PAGES:
                for _ in _decoded(file, name, 0, "strict", progress):
                    pass
                return name, 0
        except (LookupError, ValueError):
            pass
    return find_encoding(file)


class _Markup:
    """Markup that is read in pieces, as often as is wanted; what can't be decoded is counted."""

    def __init__(self, file: BinaryIO, encoding: str, mark: int, progress: Progress) -> None:
        self._read = (file, encoding, mark, MARK_UNDECODABLE, progress)
        self.replaced = 0

    def pieces(self) -> Iterator[str]:
        """From its beginning."""
        self.replaced = 0
        for piece in _decoded(*self._read):
            self.replaced += piece.count(UNDECODABLE)
            yield encodable(piece)


def _decoded(file: BinaryIO, encoding: str, start: int, errors: str, progress: Progress) -> Iterator[str]:
    file.seek(start)
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    while block := file.read(BLOCK_BYTES):
        progress()
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _headings_in(main: str, headings: list[tuple[int, int, str]]) -> Outline:
    """Where a page's headings stand in its main text: as lines of their own, in the page's order."""
    places: dict[str, list[int]] = {}
    for place, (_, _, heading) in enumerate(headings):
        places.setdefault(unicodedata.normalize("NFC", heading), []).append(place)
    outline, at, last = Outline(), 0, -1
    for line in main.split("\n"):
        found = places.get(one_line(line), [])
        following = bisect_right(found, last)
        if following < len(found):
            last = found[following]
            outline.add(at + len(line) - len(line.lstrip()), headings[last][1], headings[last][2])
        at += len(line) + 1
    return outline


def _main_text(markup: str, whole: str, progress: Progress) -> str:
    """The main text of a page whose whole text this is, or that."""
    page = _tree(markup)
    progress()
    if page is None:
        return whole
    try:
        main = trafilatura.extract(page, include_comments=False, include_tables=True) or ""
    except MemoryError:
        raise
    except Exception:  # a page that its heuristics stumble over still has its text
        return whole
    progress()
    main = encodable(main)
    enough = max(MIN_MAIN_TEXT, MIN_MAIN_SHARE * len(re.sub(r"\s+", " ", whole)))
    return main if len(main) >= enough else whole


def _tree(markup: str) -> HtmlElement | None:
    # UTF-8 bytes, because lxml refuses text that declares an encoding. Comments go, their tails stay.
    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    if not markup.strip():
        return None
    markup = _PAGE_END.sub("", _LONG_TAG.sub(r"<\1 ", markup))
    try:
        page = document_fromstring(markup.encode(), parser=parser)
    except etree.ParserError:  # nothing but comments or blanks
        page = None
    except etree.LxmlError as error:
        raise ParseError("damaged-html", f"not readable HTML: {error}") from error
    for entry in parser.error_log:
        # libxml2 stops building the tree there, and says so nowhere else.
        if entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
            deep = "its tags are nested too deep" if "depth" in entry.message else entry.message
            raise ParseError("html-too-deep", f"not readable HTML: {deep}")
    return page
