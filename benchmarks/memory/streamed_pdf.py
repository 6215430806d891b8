"""A PDF of any number of pages, written page by page."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

#: Pages below one node of the page tree.
FANOUT = 100

_CATALOG, _ROOT, _FONT = 1, 2, 3


def write_pdf(path: Path, pages: Iterable[Sequence[str]]) -> None:
    """Each page is its lines, set in Helvetica of 10 points. The page tree has two levels."""
    # Byte offsets by object number; the first object is number 1.
    offsets = array("Q", [0, 0, 0])
    nodes: list[int] = []
    kids: list[int] = []
    count = 0
    with open(path, "wb") as file:
        file.write(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
        node = _reserve(offsets)
        for lines in pages:
            if len(kids) == FANOUT:
                _put(file, offsets, node, _node(kids))
                nodes.append(node)
                node, kids = _reserve(offsets), []
            content, page = _reserve(offsets), _reserve(offsets)
            shown = " ".join(f"({_escaped(line)}) Tj T*" for line in lines)
            stream = f"BT /F1 10 Tf 13 TL 60 740 Td {shown} ET".encode("cp1252", "replace")
            _put(file, offsets, content, b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
            resources = b"/Resources << /Font << /F1 %d 0 R >> >>" % _FONT
            body = b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] %s /Contents %d 0 R >>"
            _put(file, offsets, page, body % (node, resources, content))
            kids.append(page)
            count += 1
        _put(file, offsets, node, _node(kids))
        nodes.append(node)
        _put(file, offsets, _CATALOG, b"<< /Type /Catalog /Pages %d 0 R >>" % _ROOT)
        tree = b" ".join(b"%d 0 R" % each for each in nodes)
        _put(file, offsets, _ROOT, b"<< /Type /Pages /Kids [%s] /Count %d >>" % (tree, count))
        font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
        _put(file, offsets, _FONT, font)
        xref = file.tell()
        file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
        file.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
        trailer = b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n"
        file.write(trailer % (len(offsets) + 1, _CATALOG, xref))


def _reserve(offsets: array[int]) -> int:
    offsets.append(0)
    return len(offsets)


def _put(file: BinaryIO, offsets: array[int], number: int, body: bytes) -> None:
    offsets[number - 1] = file.tell()
    file.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))


def _node(kids: Sequence[int]) -> bytes:
    tree = b" ".join(b"%d 0 R" % each for each in kids)
    return b"<< /Type /Pages /Parent %d 0 R /Kids [%s] /Count %d >>" % (_ROOT, tree, len(kids))


def _escaped(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
