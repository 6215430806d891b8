"""PDF: how it is known, and its parser, which loads PDFium when the first file is met."""

from __future__ import annotations

from collections.abc import Iterator

from engine.parsers.base import Format, Head, Magic, ParseOptions, Parser
from engine.parsers.reading import Opened
from engine.records import SectionFailure, TextSection

_MARK = b"%PDF-"

#: How far into a file its mark may come, in bytes (ISO 32000-1, annex H, note 13).
MARK_BYTES = 1024


def _begins_with_mark(head: Head) -> bool:
    return head.data.lstrip(b"\xef\xbb\xbf\t\n\r ").startswith(_MARK)


def _has_mark(head: Head) -> bool:
    return _MARK in head.data[:MARK_BYTES]


class PdfParser(Parser):
    """The text of each page, tables as rows; the document's own title, its bookmarks as headings."""

    name = "pdf"
    formats = (
        Format(
            "application/pdf",
            ("pdf",),
            (Magic(found=_begins_with_mark, where="anything"), Magic(found=_has_mark, where="unknown")),
        ),
    )
    kinds = frozenset({"text"})

    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[TextSection | SectionFailure]:
        """As the contract has it. Raises ParseError `encrypted`, `inflates-too-far` or `damaged-pdf`,
        SkipFileError `pdf-without-text` after the last page, and OSError."""
        from engine.parsers.pdf.pages import sections

        yield from sections(opened, options.progress, resume)
