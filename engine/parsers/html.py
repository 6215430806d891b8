"""HTML: the main text by trafilatura, or the whole page where that leaves too little."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import trafilatura
from lxml import etree
from lxml.html import HtmlElement, HTMLParser, document_fromstring

from engine.errors import ParseError
from engine.parsers.encoding import byte_order_mark, find_encoding
from engine.parsers.sections import cut, encodable, from_token, to_token
from engine.records import TextSection

#: Largest HTML file, in bytes: a page's tree must be in memory whole, and takes about 25 times as much.
MAX_HTML_BYTES = 32 * 1024 * 1024

#: Largest page that the main text is looked for in, in characters: that takes 4 s and 200 MiB already.
MAX_MAIN_TEXT_PAGE = 1024 * 1024

#: Below this many characters trafilatura itself only guesses (its MIN_EXTRACTED_SIZE), and loses tables.
MIN_MAIN_TEXT = 250

#: Share of the page's text below which the main text is taken to be a miss.
MIN_MAIN_SHARE = 0.25

#: Where a declaration of the character set is looked for, in bytes.
DECLARATION_BYTES = 4096

# What it can't make out it logs; without a handler, logging prints that on the terminal.
logging.getLogger("trafilatura").addHandler(logging.NullHandler())

_DECLARED = re.compile(rb"<(?:meta|\?xml)\b[^>]*?(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.I)

# As browsers do (WHATWG Encoding): Latin-1 is a name for cp1252.
_DECLARED_AS = {"iso-8859-1": "cp1252", "latin-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252"}

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


def parse(path: str, resume: str | None = None) -> Iterator[TextSection]:
    """The sections of a page's text.

    Raises ParseError `html-too-large`, `html-too-deep` or `damaged-html`, and OSError.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_HTML_BYTES + 1)
    if len(data) > MAX_HTML_BYTES:
        limit = MAX_HTML_BYTES // 1024**2
        raise ParseError("html-too-large", f"HTML is read up to {limit} MiB; split it or save it as text")
    at = from_token(resume) if resume else {}
    unit = int(at.get("unit", 0))
    text = extract(data)
    for start, end in cut(text, int(at.get("start", 0))):
        unit += 1
        yield TextSection(unit - 1, None, start, text[start:end], to_token(unit=unit, start=end))


def extract(data: bytes) -> str:
    """The text of an HTML file's bytes; empty where there is none.

    The main text is taken where it has `MIN_MAIN_TEXT` characters and `MIN_MAIN_SHARE` of the page's.
    """
    markup = decode(data)
    page = _tree(markup)
    if page is None:
        return ""
    whole = whole_text(page)
    if len(whole) > MAX_MAIN_TEXT_PAGE:
        return whole
    try:
        main = trafilatura.extract(page, include_comments=False, include_tables=True) or ""
    except MemoryError:
        raise
    except Exception:  # a page that its heuristics stumble over still has its text
        return whole
    main = encodable(main)
    enough = max(MIN_MAIN_TEXT, MIN_MAIN_SHARE * len(re.sub(r"\s+", " ", whole)))
    return main if len(main) >= enough else whole


def decode(data: bytes) -> str:
    """The markup as text: by its mark, else its own declaration if that fits, else as text is decoded."""
    if not byte_order_mark(data)[0] and (declared := _DECLARED.search(data, 0, DECLARATION_BYTES)):
        name = declared.group(1).decode("ascii", "replace").lower()
        # Bytes that show a declaration to this search aren't in UTF-16.
        name = "utf-8" if name.startswith(("utf-16", "utf-32")) else _DECLARED_AS.get(name, name)
        try:
            return encodable(data.decode(name))
        except (LookupError, ValueError):
            pass
    encoding, mark = find_encoding(io.BytesIO(data))
    return encodable(data[mark:].decode(encoding, "replace"))


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


def _tree(markup: str) -> HtmlElement | None:
    # UTF-8 bytes, because lxml refuses text that declares an encoding. Comments go, their tails stay.
    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    if not markup.strip():
        return None
    try:
        page = document_fromstring(markup.encode(), parser=parser)
    except etree.ParserError:  # nothing but comments or blanks
        page = None
    except etree.LxmlError as error:
        raise ParseError("damaged-html", f"not readable HTML: {error}") from error
    for entry in parser.error_log:
        # libxml2 stops building the tree there, and says so nowhere else.
        if entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
            raise ParseError("html-too-deep", f"not readable HTML: {entry.message}")
    return page
