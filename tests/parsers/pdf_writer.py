"""A PDF writer for tests: text at positions, lines, ruled tables, and a password where one is wanted."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

#: US Letter, in points.
LETTER = (0.0, 0.0, 612.0, 792.0)

# The padding string of ISO 32000-1, 7.6.3.3, algorithm 2.
_PADDING = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_FILE_ID = b"0123456789abcdef"


@dataclass
class Page:
    """One page's operators; (0, 0) is the bottom left corner, everything is in points."""

    box: tuple[float, float, float, float] = LETTER
    rotate: int = 0
    operators: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, size: float = 11) -> Page:
        """One run of Helvetica whose baseline begins at (x, y)."""
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        self.operators.append(f"BT /F1 {size} Tf {x} {y} Td ({escaped}) Tj ET")
        return self

    def lines(self, x: float, y: float, lines: Sequence[str], size: float = 11) -> Page:
        """Several lines, the first at (x, y), each 1.3 sizes below the one before."""
        for i, line in enumerate(lines):
            self.text(x, y - i * 1.3 * size, line, size)
        return self

    def line(self, x0: float, y0: float, x1: float, y1: float) -> Page:
        """A stroke of one point."""
        self.operators.append(f"1 w {x0} {y0} m {x1} {y1} l S")
        return self

    def box_line(self, x: float, y: float, width: float, height: float) -> Page:
        """The outline of a rectangle."""
        self.operators.append(f"1 w {x} {y} {width} {height} re S")
        return self

    def table(self, x: float, top: float, rows: Sequence[Sequence[str]], width: float = 110) -> Page:
        """A fully ruled table of 20 point rows, its top left corner at (x, top)."""
        columns, height = len(rows[0]), 20.0
        for i in range(len(rows) + 1):
            self.line(x, top - i * height, x + columns * width, top - i * height)
        for j in range(columns + 1):
            self.line(x + j * width, top, x + j * width, top - len(rows) * height)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row):
                self.text(x + j * width + 4, top - (i + 1) * height + 6, cell, 9)
        return self


def pdf(
    pages: Sequence[Page],
    password: str | None = None,
    title: str | None = None,
    bookmarks: Sequence[tuple[int, str, int | None]] = (),
) -> bytes:
    """The file's bytes; with a password it is encrypted (40 bit RC4, enough for a reader to ask).

    Bookmarks are (level from 1, title, index of their page or None), in order.
    """
    return b"".join(pdf_stream(pages, len(pages), password, title, bookmarks))


def pdf_stream(
    pages: Iterable[Page],
    count: int,
    password: str | None = None,
    title: str | None = None,
    bookmarks: Sequence[tuple[int, str, int | None]] = (),
) -> Iterator[bytes]:
    """The same of `count` pages in pieces, for a file that is too large to be held."""
    key, protection = _encryption(password) if password else (b"", b"")
    first = 4
    kids = " ".join(f"{first + 2 * i} 0 R" for i in range(count))
    head = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    yield head
    at = len(head)
    offsets = []
    before = (
        b"<< /Type /Catalog /Pages 2 0 R /Outlines %d 0 R >>" % (first + 2 * count + 1),
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    )
    after = (
        b"<< /Title <%s> >>" % _string(title or ""),
        *_outline_bodies(bookmarks, first, first + 2 * count + 1),
    )
    bodies = itertools.chain(before, _page_bodies(pages, first, key), after)
    for number, body in enumerate(bodies, start=1):
        offsets.append(at)
        data = b"%d 0 obj\n%s\nendobj\n" % (number, body)
        yield data
        at += len(data)
    yield b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1)
    yield b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    info = b"/Info %d 0 R " % (first + 2 * count)
    yield b"trailer\n<< /Size %d /Root 1 0 R %s%s>>\n" % (len(offsets) + 1, info, protection)
    yield b"startxref\n%d\n%%%%EOF\n" % at


def _page_bodies(pages: Iterable[Page], first: int, key: bytes) -> Iterator[bytes]:
    for i, page in enumerate(pages):
        number = first + 2 * i
        yield (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{' '.join(map(str, page.box))}] /Rotate {page.rotate} "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {number + 1} 0 R >>".encode()
        )
        stream = "\n".join(page.operators).encode("cp1252")
        if key:
            stream = _rc4(_object_key(key, number + 1), stream)
        yield b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)


def _string(text: str) -> bytes:
    """Text in hexadecimal UTF-16 (7.9.2.2)."""
    return ("\ufeff" + text).encode("utf-16-be").hex().encode()


def _outline_bodies(
    bookmarks: Sequence[tuple[int, str, int | None]], first_page: int, root: int
) -> Iterator[bytes]:
    """The outline's dictionary, which is the object `root`, and those of its items (12.3.3)."""
    numbers = range(root + 1, root + 1 + len(bookmarks))
    family: dict[int, list[int]] = {root: []}
    parents: list[int] = []
    path = [(0, root)]
    for number, (level, _, _) in zip(numbers, bookmarks, strict=True):
        while path[-1][0] >= level:
            path.pop()
        parents.append(path[-1][1])
        family.setdefault(path[-1][1], []).append(number)
        path.append((level, number))

    def ends(number: int) -> str:
        children = family.get(number)
        return f" /First {children[0]} 0 R /Last {children[-1]} 0 R" if children else ""

    yield f"<< /Type /Outlines{ends(root)} >>".encode()
    for number, parent, (_, title, page) in zip(numbers, parents, bookmarks, strict=True):
        siblings = family[parent]
        following = siblings[siblings.index(number) + 1 :][:1]
        goes_on = f" /Next {following[0]} 0 R" if following else ""
        leads = "" if page is None else f" /Dest [{first_page + 2 * page} 0 R /Fit]"
        text = f"/Title <{_string(title).decode()}> /Parent {parent} 0 R"
        yield f"<< {text}{ends(number)}{goes_on}{leads} >>".encode()


def _encryption(password: str) -> tuple[bytes, bytes]:
    """The file key and the trailer's entries: standard handler, revision 2 (ISO 32000-1, 7.6.3)."""
    padded = (password.encode("cp1252") + _PADDING)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    permissions = (-4).to_bytes(4, "little", signed=True)
    key = hashlib.md5(padded + owner + permissions + _FILE_ID).digest()[:5]
    user = _rc4(key, _PADDING)
    trailer = "/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >> /ID [<%s> <%s>] "
    return key, (trailer % (owner.hex(), user.hex(), _FILE_ID.hex(), _FILE_ID.hex())).encode()


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[: len(key) + 5]


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
