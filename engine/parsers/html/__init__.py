"""HTML: how it is known, and its parser, which loads lxml and trafilatura when the first page is met."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.parsers.base import Format, Head, Magic, ParseOptions, Parser
from engine.parsers.reading import Opened
from engine.records import TextSection

# Possessive, or else a row of n comments could be parted in 2 ** n ways.
_START = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--.*?-->\s*+)*+<(?:!doctype\s+html|html)\b", re.I | re.S
)
_ANY_TAG = re.compile(r"<[a-z!?/]", re.I)


def _begins_as_page(head: Head) -> bool:
    return _START.match(head.text) is not None


def _has_tags(head: Head) -> bool:
    return _ANY_TAG.search(head.text) is not None


class HtmlParser(Parser):
    """The main text of a page, or all its text where that leaves too little, with its title and headings."""

    name = "html"
    formats = (
        Format(
            "text/html",
            ("html", "htm", "xhtml", "xht"),
            (Magic(found=_begins_as_page, where="text"),),
            text=True,
            confirm=_has_tags,
        ),
    )
    kinds = frozenset({"text"})

    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[TextSection]:
        """As the contract has it. Raises ParseError `html-too-deep` or `damaged-html`, and OSError."""
        from engine.parsers.html.page import sections

        yield from sections(opened, options.progress, resume)
