"""The text of a page in pieces, while its markup comes in pieces: the same text however it is cut."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree
from lxml.html import HTMLParser

from engine.errors import ParseError
from engine.parsers.html.bare_markup import COMMENT, BareMarkup
from engine.parsers.outline import MAX_SOURCE_CHARS, Outline, one_line

#: Deepest nesting that is followed: libxml2's own limit for documents of any size.
MAX_DEPTH = 2048

#: Most characters of blank space that no line ends which are kept until it is known whether text follows.
MAX_BLANKS = 4096

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
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})

# What isn't a single blank already.
_SPACE = re.compile(r"[^\S ]\s*| \s+")
_BLANKS_OF_A_LINE = re.compile(r"[\t\r\f\v\xa0][ \t\r\f\v\xa0]*| [ \t\r\f\v\xa0]+")
_EMPTY_LINES = re.compile(r"\n{3,}")


@dataclass(slots=True)
class _Heading:
    """The page's title (level 0), or a heading, as far as it has come; `at` is its offset in the text."""

    level: int
    depth: int
    text: str = ""
    at: int = 0
    ended: bool = False


class PageText:
    """All that a page says, without scripts and styles: blocks on their own lines, cells parted by ` | `.
    Its title and its headings are known when their text is.

    Each piece of markup is read by a parser of its own, which is given the elements that were open where the
    piece before ended: libxml2 keeps all it was ever fed, and a note of each fault in it.
    """

    def __init__(self) -> None:
        self._newlines = io.IncrementalNewlineDecoder(None, translate=True)
        self._bare = BareMarkup()
        self._lines = _Lines()
        self._events = _Events()
        self._headings: deque[_Heading] = deque()
        #: The text of the title element.
        self.title: str | None = None
        self.outline = Outline()

    @property
    def elements(self) -> int:
        """How many elements there were so far."""
        return self._events.elements

    def feed(self, markup: str, last: bool = False) -> str:
        """The text that this piece adds. Raises ParseError `html-too-deep` or `damaged-html`."""
        bare = self._bare.feed(self._newlines.decode(markup, final=last), last)
        if not bare:
            return ""
        events = self._events
        # The stubs want all that a target may have; lxml takes what is there.
        target: Any = events
        parser = HTMLParser(target=target, encoding="utf-8", huge_tree=True, remove_comments=True)
        try:
            events.listening = False
            if opened := events.opened():
                parser.feed(opened.encode())
            events.listening = True
            parser.feed(bare.encode())
            if last:
                parser.close()
            elif not self._bare.raw:
                # A text's end is held back until something follows, were it a comment.
                parser.feed(COMMENT.encode())
        except etree.LxmlError as error:
            raise ParseError("damaged-html", f"not readable HTML: {error}") from error
        return "".join(self._tidied(events.taken()))

    def _tidied(self, parts: list[str | _Heading]) -> Iterator[str]:
        """The text of these parts; headings go to the outline once they are over."""
        text: list[str] = []
        for part in parts:
            if isinstance(part, str):
                text.append(part)
            else:
                yield self._lines.add("".join(text))
                text.clear()
                # Those without any text are told no offset, and must not pile up.
                self._lines.marked = [
                    each for each in self._lines.marked if not each.ended or each.text.strip()
                ]
                self._lines.marked.append(part)
                self._headings.append(part)
        yield self._lines.add("".join(text))
        while self._headings and self._headings[0].ended:
            heading = self._headings.popleft()
            if heading.level:
                self.outline.add(heading.at, heading.level, heading.text)
            else:
                self.title = self.title or one_line(heading.text) or None


def texts(pieces: Iterable[str], page: PageText) -> Iterator[str]:
    """The text that each piece adds, and what its end adds."""
    for piece in pieces:
        yield page.feed(piece)
    yield page.feed("", last=True)


class _Events:
    """What libxml2 calls: keeps the open elements, and turns what comes into text with separators."""

    def __init__(self) -> None:
        self.listening = True
        self.elements = 0
        self._open: list[str] = []
        self._has_child = [False]
        self._has_head = False
        self._kept_lines = 0
        # The depth of the element whose content is dropped; 0 for none.
        self._dropped = 0
        self._parts: list[str | _Heading] = []
        self._heading: _Heading | None = None

    def opened(self) -> str:
        """Markup after which a parser is where the last one ended."""
        markup = "".join(f"<{tag}>" for tag in self._open)
        # Where a head is over, there is no other.
        return (
            markup.replace("<html>", "<html><head></head>", 1)
            if self._has_head and "<head>" not in markup
            else markup
        )

    def taken(self) -> list[str | _Heading]:
        """What came since the last call: text, and headings where they begin."""
        parts, self._parts = self._parts, []
        return parts

    def start(self, tag: str, _attributes: object) -> None:
        if not self.listening:
            return
        self.elements += 1
        self._open.append(tag)
        if len(self._open) > MAX_DEPTH:
            raise ParseError("html-too-deep", "not readable HTML: its tags are nested too deep")
        first = not self._has_child[-1]
        self._has_child[-1] = True
        self._has_child.append(False)
        self._has_head = self._has_head or tag == "head"
        if self._dropped:
            return
        if tag in _PARAGRAPHS:
            self._parts.append("\n\n")
            self._kept_lines += tag in _KEEPS_LINES
        elif tag in _LINES:
            self._parts.append("\n")
        elif tag in _CELLS and not first:
            self._parts.append(" | ")
        elif tag in _DROPPED:
            self._dropped = len(self._open)
        if tag in _HEADINGS or (tag == "title" and "svg" not in self._open):
            self._end_heading()
            self._heading = _Heading(0 if tag == "title" else int(tag[1]), len(self._open))
            self._parts.append(self._heading)
        elif self._heading is not None and (tag in _PARAGRAPHS or tag in _LINES):
            self._heading.text += " "

    def _end_heading(self) -> None:
        if self._heading is not None:
            self._heading.ended, self._heading = True, None

    def end(self, tag: str) -> None:
        if not self.listening:
            return
        if self._dropped == len(self._open):
            self._dropped = 0
        if self._heading is not None and self._heading.depth == len(self._open):
            self._end_heading()
        self._open.pop()
        self._has_child.pop()
        if tag in _PARAGRAPHS and not self._dropped:
            self._parts.append("\n\n")
            self._kept_lines -= tag in _KEEPS_LINES

    def data(self, text: str) -> None:
        if self.listening and not self._dropped:
            text = text if self._kept_lines else _SPACE.sub(" ", text)
            self._parts.append(text)
            if self._heading is not None:
                self._heading.text += text[: max(0, MAX_SOURCE_CHARS - len(self._heading.text))]

    def close(self) -> None:
        """Nothing is left open that would matter."""


class _Lines:
    """Tidies text that comes in pieces: single blanks, no blanks around lines, at most one empty line."""

    def __init__(self) -> None:
        # The last character that was handed on, and the blank space after it.
        self._last = self._held = ""
        self._length = 0
        #: Headings whose first character is still to come; they are told its offset.
        self.marked: list[_Heading] = []

    def add(self, text: str) -> str:
        """What is sure with this piece: all up to its last character that isn't blank."""
        text = self._held + text
        end = len(text.rstrip())
        blank = text[end:]
        line_ends = min(2, blank.count("\n"))
        self._held = "\n" * line_ends or _BLANKS_OF_A_LINE.sub(" ", blank)[:MAX_BLANKS]
        if not end:
            return ""
        # The last character stands before it, so that a line that goes on keeps its blanks.
        tidy = _tidy(self._last + text[:end])[len(self._last) :]
        self._last = tidy[-1]
        for heading in self.marked:
            heading.at = self._length + len(tidy) - len(tidy.lstrip())
        self.marked.clear()
        self._length += len(tidy)
        return tidy


def _tidy(text: str) -> str:
    lines = (_BLANKS_OF_A_LINE.sub(" ", line).strip() for line in text.split("\n"))
    return _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip()
