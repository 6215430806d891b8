"""What hostile PDFs are made of."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from tests.hostile.picture_parts import bomb
from tests.hostile.texts import PROSE
from tests.parsers.pdf_writer import Page, pdf

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
TEXT = b"BT /F1 11 Tf 72 700 Td (Bees keep the hive warm.) Tj ET"


def whole(objects: Mapping[int, bytes], trailer: bytes = b"", size: int | None = None) -> bytes:
    """A file of these objects with a right table of references; 1 is the catalogue."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    xref = len(out)
    out += b"xref\n0 1\n0000000000 65535 f \n"
    for number, offset in offsets.items():
        out += b"%d 1\n%010d 00000 n \n" % (number, offset)
    count = size or max(objects) + 1
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (count, trailer, xref)
    return bytes(out)


def stream(data: bytes, entries: bytes = b"") -> bytes:
    """A stream object's body."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def one_page(
    content: bytes, resources: bytes = b"", more: Mapping[int, bytes] | None = None, **parts: bytes
) -> bytes:
    """A document of one page: 2 the pages, 3 the page, 4 its content, 5 Helvetica."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % parts.get("catalogue", b""),
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 %s >>" % parts.get("pages", b""),
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox %s /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> %s >> %s >>"
        % (parts.get("box", b"[0 0 612 792]"), resources, parts.get("page", b"")),
        4: content,
        5: parts.get("font", FONT),
    }
    return whole(objects | dict(more or {}), parts.get("trailer", b""))


def nested(levels: int, mebibytes: int) -> bytes:
    """A stream that inflates several times, at last to so much."""
    data = bomb(mebibytes)
    for _ in range(levels - 1):
        data = zlib.compress(data, 9)
    return stream(data, b"/Filter [%s]" % (b"/FlateDecode " * levels))


def plain() -> bytes:
    pages = [Page().lines(72, 700, [f"Page {i} of the bees' book.", PROSE.strip()]) for i in range(6)]
    return pdf(pages)


def one_bad_page(bad: bytes) -> bytes:
    """Five pages, of which the third is something else."""
    kids = b" ".join(b"%d 0 R" % (10 + i) for i in range(5))
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [%s] /Count 5 >>" % kids,
        5: FONT,
    }
    for i in range(5):
        objects[10 + i] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>"
        )
    objects[12] = bad
    objects[4] = stream(TEXT)
    return whole(objects)


def tree(levels: int, wide: int, leaf: bytes = b"99 0 R") -> bytes:
    """A page tree in which each branch comes several times: wide ** levels pages of one."""
    objects = {1: b"<< /Type /Catalog /Pages 10 0 R >>"}
    for level in range(levels):
        kid = leaf if level == levels - 1 else b"%d 0 R" % (11 + level)
        count = wide ** (levels - level)
        objects[10 + level] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % ((kid + b" ") * wide, count)
    objects[99] = (
        b"<< /Type /Page /Parent 10 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>"
    )
    objects[4], objects[5] = stream(TEXT), FONT
    return whole(objects)


def form(content: bytes, resources: bytes = b"") -> bytes:
    """A form's body."""
    return stream(
        content, b"/Type /XObject /Subtype /Form /BBox [0 0 600 700] /Resources << %s >>" % resources
    )


def forms(levels: int, wide: int) -> bytes:
    """Forms that draw the next several times each: wide ** levels texts."""
    more = {20 + i: form(b"/N Do " * wide, b"/XObject << /N %d 0 R >>" % (21 + i)) for i in range(levels)}
    more[20 + levels] = form(TEXT, b"/Font << /F1 5 0 R >>")
    return one_page(stream(b"/N Do"), b"/XObject << /N 20 0 R >>", more)


def referenced_contents(times: int, mebibytes: int) -> bytes:
    """One stream as the page's content many times over."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents [%s] >>" % (b"4 0 R " * times),
        4: stream(bomb(mebibytes), b"/Filter /FlateDecode"),
    }
    return whole(objects)


def xref_of(entries: int) -> bytes:
    data = one_page(stream(TEXT))
    at = data.index(b"xref\n0 1")
    return (
        data[:at] + b"xref\n0 1\n0000000000 65535 f \n100 %d\n" % entries + b"0000000000 00000 f \n" * entries
        + data[at + len(b"xref\n0 1\n0000000000 65535 f \n") :]
    )  # fmt: skip


def object_stream(extends: int) -> bytes:
    """A catalogue inside of an object stream that is said to be inside of itself, or of another."""
    body = b"1 0 2 34 " + b"<< /Type /Catalog /Pages 2 0 R >> << /Type /Pages /Kids [] /Count 0 >>"
    out = bytearray(b"%PDF-1.7\n")
    at = len(out)
    out += (
        b"7 0 obj\n" + stream(body, b"/Type /ObjStm /N 2 /First 9 /Extends %d 0 R" % extends) + b"\nendobj\n"
    )
    rows = {0: (0, 0, 65535), 1: (2, 7, 0), 2: (2, 7, 1), 7: (2, extends, 0) if extends != 7 else (1, at, 0)}
    xref = len(out)
    table = b"".join(
        bytes([k]) + a.to_bytes(4, "big") + b.to_bytes(2, "big")
        for k, a, b in (rows.get(i, (0, 0, 0)) for i in range(9))
    )
    out += b"8 0 obj\n" + stream(table, b"/Type /XRef /Size 9 /W [1 4 2] /Root 1 0 R") + b"\nendobj\n"
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % xref


def previous(where: str) -> bytes:
    data = one_page(stream(TEXT))
    at = data.rindex(b"startxref\n") + 10
    xref = data[at:].split()[0]
    return data.replace(b"/Root 1 0 R", b"/Root 1 0 R /Prev " + (xref if where == "itself" else b"999999999"))


def operators(count: int) -> bytes:
    return one_page(stream(b"q " * count + TEXT))


def lzw(blocks: int) -> bytes:
    """LZW data (ISO 32000-1, 7.4.4) of blocks that are 7 MB of zeros each."""
    codes = [0, *range(258, 4095)]
    block = "".join(f"{code:0{max(9, min(12, (258 + i).bit_length()))}b}" for i, code in enumerate(codes))
    bits = f"{256:09b}" + (block + f"{256:012b}") * blocks + f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def grid(lines: int) -> bytes:
    """A page ruled in both directions."""
    step = 600 / lines
    rules = b"".join(
        b"0 %.2f m 600 %.2f l S %.2f 0 m %.2f 600 l S\n" % ((i * step,) * 4) for i in range(lines)
    )
    return one_page(stream(TEXT + b"\n" + rules))


def bomb_in_object_stream() -> bytes:
    packed = bomb(300)
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        7: stream(packed, b"/Type /ObjStm /N 1 /First 4 /Filter /FlateDecode"),
    }
    out = bytearray(b"%PDF-1.7\n")
    offsets = {}
    for number, body in objects.items():
        offsets[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    xref = len(out)
    rows = [(0, 0, 0), (1, offsets[1], 0), (2, 7, 0), *[(0, 0, 0)] * 4, (1, offsets[7], 0), (1, xref, 0)]
    table = b"".join(
        bytes([kind]) + at.to_bytes(4, "big") + more.to_bytes(2, "big") for kind, at, more in rows
    )
    out += b"8 0 obj\n" + stream(table, b"/Type /XRef /Size 9 /W [1 4 2] /Root 1 0 R") + b"\nendobj\n"
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % xref
