"""Markdown: text as it stands, with the title and the headings that CommonMark finds in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.parsers import text
from engine.parsers.base import Format, ParseOptions, Parser
from engine.parsers.outline import MAX_SOURCE_CHARS, Outline, one_line
from engine.parsers.reading import Opened
from engine.parsers.sections import from_token
from engine.records import TextSection

if TYPE_CHECKING:
    from markdown_it.token import Token

_NEWLINE = re.compile(r"\r\n?|\n")

# What stands before the text in the files of site generators: YAML, or TOML.
_FRONT_MATTER = re.compile(
    r"(?:---[ \t]*\r?\n(?:(?P<yaml>.*?)\r?\n)?(?:---|\.\.\.)"
    r"|\+\+\+[ \t]*\r?\n(?:(?P<toml>.*?)\r?\n)?\+\+\+)[ \t]*(?:\r?\n|\Z)",
    re.S,
)
_TITLE = re.compile(
    r"""^title[ \t]*[:=][ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^"'\s>|#].*?)[ \t]*(?:[ \t]\#.*)?\r?$""", re.M
)


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
    """Finds the headings of Markdown that comes section by section: those of the document itself, and none
    that stand in a list, a quotation, code or HTML. Memory does not grow with the text.
    """

    def __init__(self) -> None:
        from markdown_it import MarkdownIt

        self.outline = Outline()
        #: The front matter's title.
        self.title: str | None = None
        self._began = False
        # What stands inside of blocks is read for headings alone.
        self._blocks = MarkdownIt("commonmark").disable("inline", True)
        self._inline = MarkdownIt("commonmark")
        #: The line that opened the code in which the last section ended.
        self._fence = ""

    def feed(self, section: str, at: int) -> None:
        """The next section, which begins at this offset; its headings are in the outline then."""
        start = 0 if self._began else self._front_matter(section)
        self._began = True
        markup = self._fence + section[start:]
        at += start - len(self._fence)
        lines = [0, *(match.end() for match in _NEWLINE.finditer(markup))]
        try:
            tokens = self._blocks.parse(markup)
        except MemoryError:
            raise
        except Exception:  # the text is there without its headings too
            return
        for number, token in enumerate(tokens):
            if token.type == "heading_open" and token.level == 0 and token.map:
                heading = self.plain(tokens[number + 1].content)
                self.outline.add(at + lines[token.map[0]], int(token.tag[1]), heading)
        self._fence = _open_fence(tokens[-1], markup, lines) if tokens else ""

    def plain(self, markup: str) -> str:
        """The text of a heading, without the marks of links, code and emphasis."""
        (inline,) = self._inline.parseInline(markup[:MAX_SOURCE_CHARS])
        return _text(inline.children or [])

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


def _open_fence(last: Token, markup: str, lines: list[int]) -> str:
    """The line that opens a fence which the last block is and which nothing closes."""
    if last.type != "fence" or last.level or not last.map:
        return ""
    begin, end = last.map
    closing = markup[lines[end - 1] :].strip()
    if end - begin > 1 and len(closing) >= len(last.markup) and not closing.strip(last.markup[0]):
        return ""
    return f"{last.markup}\n"


def _text(tokens: list[Token]) -> str:
    parts = []
    for token in tokens:
        if token.children:
            parts.append(_text(token.children))
        elif token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return "".join(parts)
