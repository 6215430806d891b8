"""Ruled tables in a PDF: a cheap look whether a page may have one, and pdfplumber to read it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeAlias

import pypdfium2
import pypdfium2.raw as pdfium

#: Shortest line that counts as a table's rule, across and down, in points.
MIN_RULE_ACROSS, MIN_RULE_DOWN = 20.0, 6.0

#: A path no thicker than this is a line, in points.
MAX_RULE_THICKNESS = 2.0

#: Two cells side by side have this many rules in both directions together, and at least two in each.
MIN_RULES = 5

#: A page with more objects than this is a drawing, which pdfplumber would take minutes for.
MAX_OBJECTS = 20_000

#: With more lines than this each way a page is taken to have a table without looking where they meet.
MAX_LINES = 200

#: More cells than this are graph paper: pdfplumber takes 1 s for 6,000, and for four times as many 25 s.
MAX_CELLS = 8000

#: A path of more segments than this is a drawing.
MAX_PATH_SEGMENTS = 2000

#: How deep forms inside forms are looked into.
MAX_FORM_DEPTH = 4

#: Gap between two letters that parts words, as a share of the font size (pdfplumber's default, 3 points,
#: joins words of small print).
WORD_GAP = 0.15


# Where it lies across its direction, and from where to where it goes along it.
_Line: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Table:
    """A table's rows, cells joined by ` | `, and its place: left, bottom, right, top in the page's points."""

    box: tuple[float, float, float, float]
    rows: tuple[str, ...]

    def holds(self, x: float, y: float) -> bool:
        """Whether a point of the page lies inside."""
        left, bottom, right, top = self.box
        return left <= x <= right and bottom <= y <= top


def may_have_table(page: Any) -> bool:
    """Whether a PDFium page is ruled like a table.

    Its path objects must give lines across and down that meet two of the other direction each, and enough of
    them for two cells.
    """
    across: set[_Line] = set()
    down: set[_Line] = set()
    page_width, page_height = page.get_size()
    objects = _objects(page, pdfium.FPDFPage_CountObjects, pdfium.FPDFPage_GetObject)
    for number, (kind, raw) in enumerate(objects):
        if number >= MAX_OBJECTS:
            return False
        if kind != pdfium.FPDF_PAGEOBJ_PATH:
            continue
        for left, bottom, right, top in _lines_and_boxes(raw):
            width, height = right - left, top - bottom
            if width > 0.95 * page_width and height > 0.95 * page_height:
                continue  # the page's background or frame
            if width >= MIN_RULE_ACROSS:
                across |= {
                    (y, left, right) for y in ({bottom, top} if height > MAX_RULE_THICKNESS else {top})
                }
            if height >= MIN_RULE_DOWN:
                down |= {(x, bottom, top) for x in ({left, right} if width > MAX_RULE_THICKNESS else {left})}
    heights, widths = ({round(line[0]) for line in lines} for lines in (across, down))
    if len(heights) * len(widths) > MAX_CELLS:
        return False
    if min(len(across), len(down)) > MAX_LINES:
        return True
    rows, columns = _meeting(across, down), _meeting(down, across)
    return min(len(rows), len(columns)) >= 2 and len(rows) + len(columns) >= MIN_RULES


def _meeting(lines: set[_Line], others: set[_Line]) -> set[int]:
    """Where the lines are that meet at least two of the others, rounded to points."""
    slack = MAX_RULE_THICKNESS
    return {
        round(at)
        for at, start, end in lines
        if len(
            {
                round(other)
                for other, first, last in others
                if start - slack <= other <= end + slack and first - slack <= at <= last + slack
            }
        )
        >= 2
    }


def read_tables(document: Any, index: int) -> list[Table]:
    """The tables of a page (from 0) of a PDFium document; none where pdfplumber can't make out the page, for
    PDFium already could.

    pdfplumber gets a document of that page alone: to open a long one, and to walk to a page far inside, takes
    it longer than the page itself, and pdfminer keeps what it read on the way.
    """
    import pdfplumber

    try:
        with closing(pypdfium2.PdfDocument.new()) as alone:
            alone.import_pages(document, [index])
            alone.save(copy := BytesIO())
        with pdfplumber.open(copy, raise_unicode_errors=False) as opened:
            page = opened.pages[0]
            return [table for found in page.find_tables() if (table := _table(page, found))]
    except (OSError, MemoryError):
        raise
    except Exception:
        return []


def _table(page: Any, found: Any) -> Table | None:
    cells = [
        [" ".join((cell or "").split()) for cell in row] for row in found.extract(x_tolerance_ratio=WORD_GAP)
    ]
    columns = [
        i for i in range(max(map(len, cells), default=0)) if any(i < len(row) and row[i] for row in cells)
    ]
    # A frame around one text is no table.
    if len(columns) < 2 or not any(sum(map(bool, row)) > 1 for row in cells):
        return None
    rows = tuple(" | ".join(row[i] for i in columns) for row in cells if any(row))
    return Table(_page_box(page, found.bbox), rows)


def _page_box(page: Any, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """pdfplumber's box (from the top, turned as displayed) in the page's own coordinates, which PDFium uses.

    The inverse of pdfminer's `process_page` and pdfplumber's `point2coord`.
    """
    x0, y0, x1, y1 = page.page_obj.mediabox
    shift, top = page.mediabox[:2]
    left, right = box[0] - shift, box[2] - shift
    low, high = top + float(page.height) - box[3], top + float(page.height) - box[1]
    if page.rotation == 90:
        return x1 - high, y0 + left, x1 - low, y0 + right
    if page.rotation == 180:
        return x1 - right, y1 - high, x1 - left, y1 - low
    if page.rotation == 270:
        return x0 + low, y1 - right, x0 + high, y1 - left
    return x0 + left, y0 + low, x0 + right, y0 + high


def _objects(container: Any, count: Any, get: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """(type, raw object) of each object on a page, those inside forms too.

    PDFium's raw calls, because the helpers make a Python object for each letter run.
    """
    for i in range(count(container)):
        raw = get(container, i)
        kind = pdfium.FPDFPageObj_GetType(raw)
        yield kind, raw
        if kind == pdfium.FPDF_PAGEOBJ_FORM and depth < MAX_FORM_DEPTH:
            yield from _objects(raw, pdfium.FPDFFormObj_CountObjects, pdfium.FPDFFormObj_GetObject, depth + 1)


def _lines_and_boxes(raw: Any) -> Iterator[tuple[float, float, float, float]]:
    """(left, bottom, right, top) of a path that is one line or rectangle, or of each line of a longer one."""
    segments = pdfium.FPDFPath_CountSegments(raw)
    if segments <= 5:
        left, bottom, right, top = (ctypes.c_float() for _ in range(4))
        if pdfium.FPDFPageObj_GetBounds(raw, left, bottom, right, top):
            yield left.value, bottom.value, right.value, top.value
        return
    matrix = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(raw, matrix)
    x, y = ctypes.c_float(), ctypes.c_float()
    last: tuple[float, float] | None = None
    for i in range(segments if segments <= MAX_PATH_SEGMENTS else 0):
        segment = pdfium.FPDFPath_GetPathSegment(raw, i)
        pdfium.FPDFPathSegment_GetPoint(segment, x, y)
        point = (
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        if last is not None and pdfium.FPDFPathSegment_GetType(segment) == pdfium.FPDF_SEGMENT_LINETO:
            left, right = sorted((last[0], point[0]))
            bottom, top = sorted((last[1], point[1]))
            if min(right - left, top - bottom) <= MAX_RULE_THICKNESS:
                yield left, bottom, right, top
        last = point
