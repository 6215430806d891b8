"""Markdown: text as it stands, with the title and the headings that CommonMark finds in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

from engine.parsers import text
from engine.parsers.base import Format, ParseOptions, Parser
from engine.parsers.outline import MAX_SOURCE_CHARS, Outline, one_line
from engine.parsers.reading import Opened
from engine.parsers.sections import from_token
from engine.records import TextSection

_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n)?")

# Blocks of CommonMark 0.31 that begin in a line, its indentation taken off.
_ATX = re.compile(r"(#{1,6})(?: +(.*?))??(?: +#+)? *$")
_SETEXT = re.compile(r"(?:=+|-+) *$")
_BREAK = re.compile(r"(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$")
_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_ITEM = re.compile(r"(?P<mark>[-+*]|(?P<number>\d{1,9})[.)])(?P<blanks> +|$)(?P<text>.*)")
_DEFINITION = re.compile(r"\[[^\[\]]+\]: *\S+")
_BLANK = re.compile(r"\A\Z")
# HTML blocks by how they begin and end (4.6): the first five at a mark, the others at a blank line.
_HTML_WITH_END = (
    (
        re.compile("<(?:script|pre|style|textarea)(?:[ >]|$)", re.I),
        re.compile("</(?:script|pre|style|textarea)>", re.I),
    ),
    (re.compile("<!--"), re.compile("-->")),
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile("<![a-zA-Z]"), re.compile(">")),
    (re.compile(r"<!\[CDATA\["), re.compile(r"\]\]>")),
)
_HTML_BLOCK = re.compile(
    r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog"
    r"|dir|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe"
    r"|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table"
    r"|tbody|td|tfoot|th|thead|title|tr|track|ul)(?: |/?>|$)",
    re.I,
)
_HTML_TAG = re.compile(
    r"(?:<[a-z][a-z0-9-]*(?: +[a-z_:][\w.:-]*(?: *= *(?:[^\s\"'=<>`]+|'[^']*'|\"[^\"]*\"))?)* */?>"
    r"|</[a-z][a-z0-9-]* *>) *$",
    re.I,
)

# What stands before the text in the files of site generators: YAML, or TOML.
_FRONT_MATTER = re.compile(
    r"(?:---[ \t]*\r?\n(?:(?P<yaml>.*?)\r?\n)?(?:---|\.\.\.)"
    r"|\+\+\+[ \t]*\r?\n(?:(?P<toml>.*?)\r?\n)?\+\+\+)[ \t]*(?:\r?\n|\Z)",
    re.S,
)
_TITLE = re.compile(
    r"""^title[ \t]*[:=][ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^"'\s>|#].*?)[ \t]*(?:[ \t]\#.*)?\r?$""", re.M
)

# Inline markup whose text is kept: links and pictures, code, emphasis; and tags, of which nothing is.
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_EMPHASIS = re.compile(r"(\*{1,3})(?=\S)([^*]+)(?<=\S)\1|(?<!\w)(_{1,3})(?=\S)([^_]+)(?<=\S)\3(?!\w)")
_INLINE_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


class MarkdownParser(Parser):
    """The file's text with its title (of the front matter, else the first `#` of the first section)."""

    name = "markdown"
    formats = (Format("text/markdown", ("md", "markdown", "mdown", "mkd", "mdx"), text=True),)
    kinds = frozenset({"text"})

    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[TextSection]:
        """As the contract has it. A resumed parse reads the file from its start. Raises OSError."""
        first = int(from_token(resume)["unit"]) if resume else 0
        headings, title = Headings(), None
        for section in text.sections(opened, options.progress):
            headings.feed(section.text, section.start)
            if not section.unit:
                title = headings.title or headings.outline.first()
            taken = headings.outline.take(section.start, section.start + len(section.text))
            if section.unit >= first:
                yield replace(section, title=title, headings=taken)


class Headings:
    """Finds the headings of Markdown that comes section by section, by CommonMark's rules for blocks.

    Those of the document itself: what stands in a list, a quotation, code or HTML is none. Memory does not
    grow with the text.
    """

    def __init__(self) -> None:
        self.outline = Outline()
        #: The front matter's title.
        self.title: str | None = None
        self._began = False
        #: Whether the last section ended inside a line.
        self._inside_line = False
        # What is open at the end of the last line: the mark of a fence, what ends a block of HTML, the width
        # of a list item's margin, whether code is open inside of it, whether a paragraph there, or in a
        # quotation, may go on in a line that is not marked so ("lazily"), and a paragraph of the document
        # itself with its offset.
        self._fence = ""
        self._html: re.Pattern[str] | None = None
        self._margin = 0
        self._item_code = False
        self._lazy = False
        self._paragraph: tuple[int, str] | None = None

    def feed(self, section: str, at: int) -> None:
        """The next section, which begins at this offset; its headings are in the outline then."""
        start = 0
        if not self._began:
            self._began = True
            start = self._front_matter(section)
        for match in _LINE.finditer(section, start):
            if not match.group():
                return
            if not self._inside_line:
                line = match.group(1)[:MAX_SOURCE_CHARS].expandtabs(4)
                self._take(line.lstrip(" "), len(line) - len(line.lstrip(" ")), at + match.start())
            self._inside_line = match.group(2) is None

    def _front_matter(self, section: str) -> int:
        """Where it ends; 0 without any."""
        matter = _FRONT_MATTER.match(section)
        if matter is None:
            return 0
        if title := _TITLE.search(matter.group("yaml") or matter.group("toml") or ""):
            value = title.group(1)
            if value[0] == '"':
                try:
                    value = str(json.loads(value))
                except ValueError:
                    value = value[1:-1]
            self.title = one_line(value[1:-1] if value[0] == "'" else value) or None
        return matter.end()

    def _take(self, line: str, indent: int, at: int) -> None:
        """One line, without its indentation."""
        blank = not line
        if self._margin and (blank or indent >= self._margin):
            self._item_code ^= _FENCE.match(line) is not None
            self._lazy = not blank and not self._item_code and _is_paragraph(line)
            return
        goes_on = indent >= 4 or _is_paragraph(line) or (_SETEXT.match(line) and not _BREAK.match(line))
        if self._lazy and not blank and goes_on:
            return
        self._margin, self._lazy = 0, False
        if self._fence:
            if indent < 4 and line.startswith(self._fence) and not line.strip(self._fence[0] + " "):
                self._fence = ""
        elif self._html is not None:
            if self._html.search(line):
                self._html = None
        elif blank:
            self._paragraph = None
        elif indent >= 4 and self._paragraph is None:
            pass  # code
        elif indent >= 4 or not self._begins_block(line, indent, at):
            begin, text = self._paragraph or (at, "")
            self._paragraph = (begin, f"{text} {line}"[:MAX_SOURCE_CHARS])

    def _begins_block(self, line: str, indent: int, at: int) -> bool:
        """Whether the line is, or begins, something else than a paragraph; notes what."""
        paragraph = self._paragraph
        if heading := _ATX.match(line):
            self.outline.add(at, len(heading.group(1)), plain(heading.group(2) or ""))
        elif paragraph is not None and _SETEXT.match(line):
            self.outline.add(paragraph[0], 1 if line[0] == "=" else 2, plain(paragraph[1]))
        elif fence := _FENCE.match(line):
            self._fence = fence.group(1) or fence.group(2)
        elif _BREAK.match(line) or (paragraph is None and _DEFINITION.match(line)):
            pass
        elif line.startswith(">"):
            self._lazy = _is_paragraph(line.lstrip("> "))
        elif (html := _html_end(line, paragraph is not None)) is not None:
            self._html = None if html.search(line) else html
        elif item := _margin(line, paragraph is not None):
            self._margin = indent + item
            content = line[item:].lstrip(" ")
            self._item_code = _FENCE.match(content) is not None
            self._lazy = _is_paragraph(content)
        else:
            return False
        self._paragraph = None
        return True


def plain(markup: str) -> str:
    """The text of a heading, without the marks of links, code and emphasis."""
    text = markup[:MAX_SOURCE_CHARS]
    for _ in range(2):  # a picture may stand in a link
        text = _LINK.sub(r"\1", text)
    text = _CODE.sub(r"\2", text)
    text = _EMPHASIS.sub(r"\2\4", text)
    return unescape(_ESCAPE.sub(r"\1", _INLINE_TAG.sub("", text)))


def _is_paragraph(line: str) -> bool:
    """Whether a line, its indentation taken off, is no block but a paragraph, were one to go on."""
    others = (_ATX, _FENCE, _BREAK)
    return not (
        not line
        or line.startswith(">")
        or any(other.match(line) for other in others)
        or _margin(line, True)
        or _html_end(line, True)
    )


def _margin(line: str, in_paragraph: bool) -> int:
    """How wide the margin is of a list item that begins in this line; 0 where none does."""
    item = _ITEM.match(line)
    if item is None or (in_paragraph and (not item.group("text") or item.group("number") not in (None, "1"))):
        return 0
    blanks = len(item.group("blanks"))
    return len(item.group("mark")) + (blanks if 1 <= blanks <= 4 and item.group("text") else 1)


def _html_end(line: str, in_paragraph: bool) -> re.Pattern[str] | None:
    """What ends the block of HTML that begins in this line."""
    for begin, end in _HTML_WITH_END:
        if begin.match(line):
            return end
    if _HTML_BLOCK.match(line) or (not in_paragraph and _HTML_TAG.match(line)):
        return _BLANK
    return None
