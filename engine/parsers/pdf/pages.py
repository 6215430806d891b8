"""PDF, page by page: text by PDFium, and ruled tables by pdfplumber on the pages that have any."""

from __future__ import annotations

import ctypes
import itertools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

from engine.errors import ParseError, SkipFileError
from engine.machine.allocator import release, resident_bytes
from engine.parsers.outline import Outline
from engine.parsers.pdf.bookmarks import bookmarks, placed, title_of
from engine.parsers.pdf.streams import check_streams
from engine.parsers.pdf.tables import Table, may_have_table, read_tables
from engine.parsers.reading import Opened, Progress
from engine.parsers.sections import cut, encodable, from_token, to_token
from engine.records import SectionFailure, TextSection

#: PDFium keeps what it reads of a page for the document's life (2 to 6 KB of text). It is opened anew when
#: the process has grown by so many bytes, not after so many pages: to find a page takes 30 microseconds and
#: 1.4 KB for each page before it.
MAX_GROWTH_BYTES = 64 * 1024 * 1024

#: So many broken pages in a row end the file: its page count is then an invention.
MAX_BROKEN_PAGES = 1000

#: Least bytes of a file for each of its pages: one with less has a page tree that leads back to itself.
MIN_PAGE_BYTES = 8

#: Share of the words PDFium sees inside a table that its rows must hold; else PDFium's text stays (turned
#: pages, cells drawn over each other).
MIN_TABLE_WORDS = 0.7

#: Sections that a page may have before its units run into the next page's: 256 Mi characters.
UNITS_OF_A_PAGE = 1024

# Both only warn of what they make the best of; without a handler, logging prints it on the terminal.
for _name in ("pdfminer", "pdfplumber", "pypdfium2"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

# What PDFium makes of a hyphen at a line's end: the next line follows at once.
_LINE_HYPHEN = re.compile(r"[\ufffe\x02][\r\n]*(?=(\w?))")
_UNWANTED = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def sections(
    opened: Opened, progress: Progress, resume: str | None = None
) -> Iterator[TextSection | SectionFailure]:
    """The text of each page that has any. A broken page is a SectionFailure; the others go on.

    Raises ParseError `encrypted`, `inflates-too-far` or `damaged-pdf`, SkipFileError `pdf-without-text`
    after the last page, and OSError.
    """
    at = from_token(resume) if resume else {}
    unit, first, offset = (int(at.get(key, 0)) for key in ("unit", "page", "start"))
    something = resume is not None
    broken = 0
    with open(opened.path, "rb") as file:
        check_streams(file.fileno(), progress)
        with closing(_open(file)) as document:
            title, marks, pages = title_of(document), bookmarks(document, progress), len(document)
        outline = Outline()
        for index in sorted(index for index in marks if index < first):
            for level, heading in marks[index]:
                outline.add(0, level, heading)
        outline.take(0, 1)
        for index, text in _page_texts(file, first):
            progress(min(1.0, index / max(1, pages)))
            # By the page's number alone, so that a page that fails now and then moves no other page's units.
            unit = max(unit, index * UNITS_OF_A_PAGE)
            readable = text if isinstance(text, str) else ""
            for place, level, heading in placed(marks.get(index, ()), readable):
                outline.add(place, level, heading)
            if isinstance(text, ParseError):
                something = True
                broken += 1
                if broken == MAX_BROKEN_PAGES:
                    raise ParseError("damaged-pdf", f"{broken} pages in a row can't be read: {text}")
                yield SectionFailure(unit, index + 1, text.error_type, str(text))
                unit += 1
            else:
                broken = 0
            begin = offset if index == first else 0
            outline.take(0, begin)
            for start, end in cut(readable, begin):
                something = True
                unit += 1
                # A page that is done is not even loaded again.
                token = to_token(unit=unit, page=index + (end == len(readable)), start=end % len(readable))
                headings = outline.take(start, end)
                yield TextSection(
                    unit - 1, index + 1, start, readable[start:end], token, title=title, headings=headings
                )
            outline.take(len(readable), len(readable) + 1)
    if not something:
        raise SkipFileError("pdf-without-text")


def clean(text: str) -> str:
    """Text as PDFium gives it, with plain newlines, words whole again, and nothing that can't be stored."""
    text = _LINE_HYPHEN.sub(lambda match: "" if match.group(1).islower() else "-", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return encodable(_UNWANTED.sub("", text).replace("\0", ""))


def _page_texts(file: BinaryIO, first: int) -> Iterator[tuple[int, str | ParseError]]:
    """(index from 0, text) of each page; an error instead of the text of a page that can't be read."""
    index, count = first, first + 1
    while index < count:
        with closing(_open(file)) as document:
            count = _page_count(document, file)
            before = 0
            while index < count:
                yield index, _page_text(document, index)
                index += 1
                # What it takes to find the first page is no growth: it would be needed again at once.
                if not before:
                    before = resident_bytes()
                elif resident_bytes() - before > MAX_GROWTH_BYTES:
                    break
        release()


def _open(file: BinaryIO) -> Any:
    # By file, not by path: a path's bytes need not be UTF-8, and a library expands "~" in it.
    # PDFium's last error outlives the document that made it, and one that only lacks pages sets none: so set
    # one that no open file can have.
    pdfium.FPDF_LoadDocument(b"", None)
    try:
        return pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise ParseError("encrypted", "the PDF is encrypted; save it without a password") from error
        why = "it has no pages" if error.err_code == pdfium.FPDF_ERR_FILE else "its structure is damaged"
        raise ParseError("damaged-pdf", f"not a readable PDF: {why}") from error


def _page_count(document: Any, file: BinaryIO) -> int:
    count, size = len(document), os.fstat(file.fileno()).st_size
    if count * MIN_PAGE_BYTES > size:
        raise ParseError("damaged-pdf", f"not a readable PDF: it claims {count:,} pages in {size:,} bytes")
    return count


def _page_text(document: Any, index: int) -> str | ParseError:
    try:
        with closing(document[index]) as page, closing(page.get_textpage()) as text_page:
            if not text_page.count_chars():
                return ""
            found = read_tables(document, index) if may_have_table(page) else []
            text = clean(_with_tables(text_page, found) if found else text_page.get_text_range()).strip("\n")
    except (OSError, MemoryError):
        raise
    except pypdfium2.PdfiumError:
        return ParseError("damaged-page", "not a readable page: it is damaged or not there")
    except Exception as error:
        return ParseError("damaged-page", f"not a readable page: {str(error) or type(error).__name__}")
    return "" if text.isspace() else text


def _with_tables(text_page: Any, tables: list[Table]) -> str:
    """The page's text in PDFium's order, each table's rows where its first character stands."""
    owners: list[int | None] = []
    # One set of numbers for all characters: the helper makes four for each.
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    for i in range(text_page.count_chars()):
        if pdfium.FPDFText_IsGenerated(text_page, i) == 1:
            # Blanks that PDFium adds between words and lines belong to what comes before.
            owners.append(owners[-1] if owners else None)
            continue
        if not pdfium.FPDFText_GetCharBox(text_page, i, left, right, bottom, top):
            raise pypdfium2.PdfiumError(f"no place of character {i}")
        x, y = (left.value + right.value) / 2, (bottom.value + top.value) / 2
        owners.append(next((n for n, table in enumerate(tables) if table.holds(x, y)), None))

    runs: list[tuple[int | None, str]] = []
    for owner, group in itertools.groupby(range(len(owners)), lambda i: owners[i]):
        indices = list(group)
        runs.append((owner, text_page.get_text_range(indices[0], len(indices))))
    good = {n for n, table in enumerate(tables) if _same_words(table, [t for owner, t in runs if owner == n])}

    parts: list[str] = []
    placed: set[int] = set()
    for owner, text in runs:
        if owner is None or owner not in good:
            parts.append(text)
        elif owner not in placed:
            placed.add(owner)
            before = "" if not parts or parts[-1].endswith("\n") else "\n"
            parts.append(before + "\n".join(tables[owner].rows) + "\n")
    return "".join(parts)


def _same_words(table: Table, texts: list[str]) -> bool:
    seen = Counter(clean("".join(texts)).split())
    rows = Counter(word for row in table.rows for word in row.split())
    return (seen & rows).total() >= MIN_TABLE_WORDS * seen.total()
