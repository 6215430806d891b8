"""HTML: the main text by trafilatura, or the whole page where that leaves too little."""

from __future__ import annotations

import codecs
import io
import logging
import re
from collections.abc import Iterator
from itertools import islice

import trafilatura
from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

from engine.errors import ParseError
from engine.parsers.encoding import MARK_UNDECODABLE, UNDECODABLE, byte_order_mark, find_encoding
from engine.parsers.reading import Progress, no_progress, read_at_most
from engine.parsers.sections import cut, encodable, from_token, to_token
from engine.records import TextSection

#: Largest HTML file, in bytes: a page's tree must be in memory whole, and takes about 25 times as much.
MAX_HTML_BYTES = 32 * 1024 * 1024

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

_DROPPED = frozenset({"script", "style", "noscript", "template"})
_LINES = frozenset({"br", "li", "tr", "dt", "dd", "option", "hr"})
_PARAGRAPHS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "div", "dl", "fieldset", "figcaption",
    "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "html", "main",
    "nav", "ol", "p", "pre", "section", "select", "table", "tbody", "textarea", "tfoot", "thead", "title",
    "ul",
})  # fmt: skip
_KEEPS_LINES = frozenset({"pre", "textarea"})
_CELLS = frozenset({"td", "th"})


def parse(path: str, resume: str | None = None, progress: Progress = no_progress) -> Iterator[TextSection]:
    """The sections of a page's text.

    Raises ParseError `html-too-large`, `html-too-deep` or `damaged-html`, and OSError.
    """
    data = read_at_most(path, MAX_HTML_BYTES + 1, progress)
    if len(data) > MAX_HTML_BYTES:
        limit = MAX_HTML_BYTES // 1024**2
        raise ParseError("html-too-large", f"HTML is read up to {limit} MiB; split it or save it as text")
    at = from_token(resume) if resume else {}
    unit = int(at.get("unit", 0))
    markup = decode(data)
    # Counted where the file is read for the first time: what is resumed counted it then.
    replaced = 0 if resume else markup.count(UNDECODABLE)
    text = extract(encodable(markup), progress)
    for start, end in cut(text, int(at.get("start", 0))):
        unit += 1
        yield TextSection(unit - 1, None, start, text[start:end], to_token(unit=unit, start=end), replaced)
        replaced = 0


def extract(markup: str, progress: Progress = no_progress) -> str:
    """The text of an HTML page; empty where there is none.

    The main text is taken where it has `MIN_MAIN_TEXT` characters and `MIN_MAIN_SHARE` of the page's.
    """
    page = _tree(markup)
    if page is None:
        return ""
    progress()
    whole = whole_text(page)
    progress()
    if len(whole) > MAX_MAIN_TEXT_PAGE or _elements(page) > MAX_MAIN_TEXT_ELEMENTS:
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


def decode(data: bytes) -> str:
    """The markup as text: by its mark, else its own declaration if that fits, else as text is decoded.

    What can't be decoded is marked by `UNDECODABLE`.
    """
    if not byte_order_mark(data)[0] and (declared := _DECLARED.search(data, 0, DECLARATION_BYTES)):
        name = declared.group(1).decode("ascii", "replace").lower()
        # Bytes that show a declaration to this search aren't in UTF-16.
        name = "utf-8" if name.startswith(("utf-16", "utf-32")) else _DECLARED_AS.get(name, name)
        try:
            if codecs.lookup(name).name not in _NOT_OF_PAGES:
                return data.decode(name)
        except (LookupError, ValueError):
            pass
    encoding, mark = find_encoding(io.BytesIO(data))
    return data[mark:].decode(encoding, MARK_UNDECODABLE)


def whole_text(page: HtmlElement) -> str:
    """All that a page says, without scripts and styles: blocks on their own lines, cells parted by ` | `."""
    parts: list[str] = []
    kept_lines = 0
    walker = etree.iterwalk(page, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        separator = "\n\n" if tag in _PARAGRAPHS else ""
        kept_lines += (1 if event == "start" else -1) if tag in _KEEPS_LINES else 0
        if event == "start":
            if tag in _LINES:
                separator = "\n"
            elif tag in _CELLS and element.getprevious() is not None:
                separator = " | "
            parts.append(separator)
            if tag in _DROPPED:
                walker.skip_subtree()
                continue
            text = element.text
        else:
            parts.append(separator)
            text = element.tail
        if text:
            parts.append(text if kept_lines else re.sub(r"\s+", " ", text))
    lines = (re.sub(r"[ \t\r\f\v\xa0]+", " ", line).strip() for line in "".join(parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _elements(page: HtmlElement) -> int:
    """How many elements the page has, counted no further than it matters."""
    return sum(1 for _ in islice(page.iter(), MAX_MAIN_TEXT_ELEMENTS + 1))


def _tree(markup: str) -> HtmlElement | None:
    # UTF-8 bytes, because lxml refuses text that declares an encoding. Comments go, their tails stay.
    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    if not markup.strip():
        return None
    markup = _LONG_TAG.sub(r"<\1 ", markup)
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
