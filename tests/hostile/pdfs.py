"""Hostile PDFs."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from tests.hostile.kind import Kind, cuts, flips
from tests.hostile.pictures import bomb
from tests.hostile.texts import PROSE
from tests.parsers.pdf_writer import Page, pdf

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
_TEXT = b"BT /F1 11 Tf 72 700 Td (Bees keep the hive warm.) Tj ET"


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


def one_page(content: bytes, resources: bytes = b"", more: Mapping[int, bytes] | None = None, **parts: bytes) -> bytes:
    """A document of one page: 2 the pages, 3 the page, 4 its content, 5 Helvetica."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R %s >>" % parts.get("catalogue", b""),
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 %s >>" % parts.get("pages", b""),
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox %s /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> %s >> %s >>"
        % (parts.get("box", b"[0 0 612 792]"), resources, parts.get("page", b"")),
        4: content,
        5: parts.get("font", _FONT),
    }
    return whole(objects | dict(more or {}), parts.get("trailer", b""))


def nested(levels: int, mebibytes: int) -> bytes:
    """A stream that inflates several times, at last to so much."""
    data = bomb(mebibytes)
    for _ in range(levels - 1):
        data = zlib.compress(data, 9)
    return stream(data, b"/Filter [%s]" % (b"/FlateDecode " * levels))


def _plain() -> bytes:
    pages = [Page().lines(72, 700, [f"Page {i} of the bees' book.", PROSE.strip()]) for i in range(6)]
    return pdf(pages)


def _one_bad_page(bad: bytes) -> bytes:
    """Five pages, of which the third is something else."""
    kids = b" ".join(b"%d 0 R" % (10 + i) for i in range(5))
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [%s] /Count 5 >>" % kids, 5: _FONT}
    for i in range(5):
        objects[10 + i] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>"
        )
    objects[12] = bad
    objects[4] = stream(_TEXT)
    return whole(objects)


def _tree(levels: int, wide: int, leaf: bytes = b"99 0 R") -> bytes:
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
    objects[4], objects[5] = stream(_TEXT), _FONT
    return whole(objects)


def form(content: bytes, resources: bytes = b"") -> bytes:
    """A form's body."""
    return stream(content, b"/Type /XObject /Subtype /Form /BBox [0 0 600 700] /Resources << %s >>" % resources)


def _forms(levels: int, wide: int) -> bytes:
    """Forms that draw the next several times each: wide ** levels texts."""
    more = {
        20 + i: form(b"/N Do " * wide, b"/XObject << /N %d 0 R >>" % (21 + i)) for i in range(levels)
    }
    more[20 + levels] = form(_TEXT, b"/Font << /F1 5 0 R >>")
    return one_page(stream(b"/N Do"), b"/XObject << /N 20 0 R >>", more)


def _referenced_contents(times: int, mebibytes: int) -> bytes:
    """One stream as the page's content many times over."""
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents [%s] >>" % (b"4 0 R " * times),
        4: stream(bomb(mebibytes), b"/Filter /FlateDecode"),
    }
    return whole(objects)


def _xref_of(entries: int) -> bytes:
    data = one_page(stream(_TEXT))
    at = data.index(b"xref\n0 1")
    return (
        data[:at] + b"xref\n0 1\n0000000000 65535 f \n100 %d\n" % entries + b"0000000000 00000 f \n" * entries
        + data[at + len(b"xref\n0 1\n0000000000 65535 f \n") :]
    )  # fmt: skip


def _object_stream(extends: int) -> bytes:
    """A catalogue inside of an object stream that is said to be inside of itself, or of another."""
    body = b"1 0 2 34 " + b"<< /Type /Catalog /Pages 2 0 R >> << /Type /Pages /Kids [] /Count 0 >>"
    out = bytearray(b"%PDF-1.7\n")
    at = len(out)
    out += b"7 0 obj\n" + stream(body, b"/Type /ObjStm /N 2 /First 9 /Extends %d 0 R" % extends) + b"\nendobj\n"
    rows = {0: (0, 0, 65535), 1: (2, 7, 0), 2: (2, 7, 1), 7: (2, extends, 0) if extends != 7 else (1, at, 0)}
    xref = len(out)
    table = b"".join(bytes([k]) + a.to_bytes(4, "big") + b.to_bytes(2, "big") for k, a, b in (rows.get(i, (0, 0, 0)) for i in range(9)))
    out += b"8 0 obj\n" + stream(table, b"/Type /XRef /Size 9 /W [1 4 2] /Root 1 0 R") + b"\nendobj\n"
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % xref


def _previous(where: str) -> bytes:
    data = one_page(stream(_TEXT))
    at = data.rindex(b"startxref\n") + 10
    xref = data[at:].split()[0]
    return data.replace(b"/Root 1 0 R", b"/Root 1 0 R /Prev " + (xref if where == "itself" else b"999999999"))


def _operators(count: int) -> bytes:
    return one_page(stream(b"q " * count + _TEXT))



def _lzw(blocks: int) -> bytes:
    """LZW data (ISO 32000-1, 7.4.4) of blocks that are 7 MB of zeros each."""
    codes = [0, *range(258, 4095)]
    block = "".join(f"{code:0{max(9, min(12, (258 + i).bit_length()))}b}" for i, code in enumerate(codes))
    bits = f"{256:09b}" + (block + f"{256:012b}") * blocks + f"{257:09b}"
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8)


def _grid(lines: int) -> bytes:
    """A page ruled in both directions."""
    step = 600 / lines
    rules = b"".join(b"0 %.2f m 600 %.2f l S %.2f 0 m %.2f 600 l S\n" % ((i * step,) * 4) for i in range(lines))
    return one_page(stream(_TEXT + b"\n" + rules))


_LOOPING_OUTLINE = {
    30: b"<< /Type /Outlines /First 31 0 R /Last 31 0 R /Count 2000000000 >>",
    31: b"<< /Title (bees) /Parent 31 0 R /Next 31 0 R /Prev 31 0 R /First 31 0 R >>",
}
_CMAP = b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <0000> <ffff> endcodespacerange\n" + (
    b"1 beginbfrange <0000> <ffff> <0000> endbfrange\n" * 2000
)
_READABLE = "PDF|page|text"

# Only the limits on the parser itself end these: PDFium aborts its process where memory does not suffice.
_KILLED = "memory|SIGABRT|progress"

KINDS = [
    *cuts("book.pdf", _plain, "failed indexed partial skipped", _READABLE),
    *flips("book.pdf", _plain, "failed indexed partial skipped", _READABLE),
    Kind("content that inflates to 2 GB.pdf", lambda: one_page(nested(1, 300)), "failed partial", "inflate"),
    Kind("content that inflates three times.pdf", lambda: one_page(nested(3, 300)), "failed partial", "inflate"),
    Kind("content that is 40 times compressed.pdf", lambda: one_page(nested(40, 1)), "indexed skipped failed partial", "inflate|text"),
    Kind("content in hexadecimal that inflates.pdf", lambda: one_page(stream(bomb(300).hex().encode() + b">", b"/Filter [/ASCIIHexDecode /FlateDecode]")), "failed partial", "inflate"),
    Kind("runs without end.pdf", lambda: one_page(stream(b"\x81 " * 2_000_000, b"/Filter /RunLengthDecode")), "skipped failed partial", "inflate|text"),
    Kind("content a thousand times over.pdf", lambda: _referenced_contents(1000, 80), "failed partial skipped", _KILLED),
    Kind("object stream that inflates.pdf", lambda: _bomb_in_object_stream(), "failed", "inflate|PDF"),
    Kind("font that inflates.pdf", lambda: one_page(stream(_TEXT), font=b"<< /Type /Font /Subtype /TrueType /BaseFont /B /FontDescriptor 6 0 R >>", more={6: b"<< /Type /FontDescriptor /FontName /B /Flags 4 /FontFile2 7 0 R >>", 7: nested(1, 300)}), "failed partial", "inflate"),
    Kind("picture that inflates.pdf", lambda: one_page(stream(b"/I Do " + _TEXT), b"/XObject << /I 6 0 R >>", {6: stream(bomb(300), b"/Subtype /Image /Width 30000 /Height 30000 /BitsPerComponent 8 /ColorSpace /DeviceGray /Filter /FlateDecode")}), "indexed"),
    Kind("predictor of absurd width.pdf", lambda: one_page(stream(zlib.compress(_TEXT), b"/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 2147483647 /Colors 255 >>")), "indexed failed skipped partial", _READABLE),
    Kind("page tree in a circle.pdf", lambda: whole({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"}), "failed skipped", _READABLE),
    Kind("parents in a circle.pdf", lambda: one_page(stream(_TEXT), pages=b"/Parent 2 0 R"), "indexed"),
    Kind("page tree of a million pages.pdf", lambda: _tree(6, 10), "failed partial", "pages"),
    Kind("page tree of ten to the tenth.pdf", lambda: _tree(10, 10), "failed partial", "pages"),
    Kind("two billion pages claimed.pdf", lambda: one_page(stream(_TEXT)).replace(b"/Count 1", b"/Count 2147483647"), "failed partial indexed", "page"),
    Kind("less than no pages.pdf", lambda: one_page(stream(_TEXT)).replace(b"/Count 1", b"/Count -5"), "failed partial indexed skipped", "page|PDF|text"),
    Kind("no pages.pdf", lambda: whole({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [] /Count 0 >>"}), "skipped failed", "text|PDF"),
    Kind("no page tree.pdf", lambda: whole({1: b"<< /Type /Catalog >>"}), "failed skipped", "PDF|text"),
    Kind("no catalogue.pdf", lambda: whole({2: b"<< >>"}), "failed", "PDF"),
    Kind("one bad page of five.pdf", lambda: _one_bad_page(b"(no page)"), "partial", "page"),
    Kind("form that contains itself.pdf", lambda: one_page(stream(b"/N Do " + _TEXT), b"/XObject << /N 20 0 R >>", {20: form(b"/N Do", b"/XObject << /N 20 0 R >>")}), "indexed"),
    Kind("forms that contain each other.pdf", lambda: one_page(stream(b"/N Do " + _TEXT), b"/XObject << /N 20 0 R >>", {20: form(b"/N Do", b"/XObject << /N 21 0 R >>"), 21: form(b"/N Do", b"/XObject << /N 20 0 R >>")}), "indexed"),
    Kind("ten thousand millions of forms.pdf", lambda: _forms(10, 10), "failed partial", _KILLED),
    Kind("outline in a circle.pdf", lambda: one_page(stream(_TEXT), catalogue=b"/Outlines 30 0 R", more=_LOOPING_OUTLINE), "indexed"),
    Kind("deep arrays.pdf", lambda: one_page(stream(_TEXT), page=b"/Deep " + b"[" * 100_000 + b"]" * 100_000), "indexed failed skipped partial", _READABLE),
    Kind("deep dictionaries.pdf", lambda: one_page(stream(_TEXT), catalogue=b"/Deep " + b"<< /A " * 50_000 + b">> " * 50_000), "indexed failed skipped", _READABLE),
    Kind("deep content.pdf", lambda: one_page(stream(b"[" * 200_000 + _TEXT)), "indexed skipped", "text"),
    Kind("saved states.pdf", lambda: _operators(300_000), "indexed"),
    Kind("reference to itself.pdf", lambda: one_page(b"4 0 R"), "skipped failed partial", "text|page"),
    Kind("length in a circle.pdf", lambda: one_page(b"<< /Length 4 0 R >>\nstream\n" + _TEXT + b"\nendstream"), "indexed skipped failed", _READABLE),
    Kind("length of two billion.pdf", lambda: one_page(stream(_TEXT).replace(b"/Length %d" % len(_TEXT), b"/Length 2147483647")), "indexed skipped failed", _READABLE),
    Kind("references that go back to themselves.pdf", lambda: _previous("itself"), "indexed failed", "PDF"),
    Kind("references that go back to nowhere.pdf", lambda: _previous("nowhere"), "indexed failed", "PDF"),
    Kind("a million references.pdf", lambda: _xref_of(1_000_000), "indexed failed", "PDF"),
    Kind("two billion objects claimed.pdf", lambda: one_page(stream(_TEXT)).replace(b"/Size 6", b"/Size 2147483647"), "indexed failed", "PDF"),
    Kind("object stream inside of itself.pdf", lambda: _object_stream(7), "skipped failed", "text|PDF"),
    Kind("object stream inside of another.pdf", lambda: _object_stream(6), "skipped failed", "text|PDF"),
    Kind("page of no size.pdf", lambda: one_page(stream(_TEXT), box=b"[0 0 0 0]"), "indexed skipped", "text"),
    Kind("page of absurd size.pdf", lambda: one_page(stream(_TEXT), box=b"[-1e30 -1e30 1e30 1e30]"), "indexed skipped partial failed", "text|page"),
    Kind("font without a map.pdf", lambda: one_page(stream(b"BT /F1 11 Tf 72 700 Td <00010002000300040005> Tj ET"), font=b"<< /Type /Font /Subtype /Type0 /BaseFont /None /Encoding /Identity-H /DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /None /CIDSystemInfo << /Registry (A) /Ordering (B) /Supplement 0 >> >>] >>"), "indexed skipped", "text"),
    Kind("font that is its own descendant.pdf", lambda: one_page(stream(_TEXT), font=b"<< /Type /Font /Subtype /Type0 /BaseFont /N /Encoding /Identity-H /DescendantFonts [5 0 R] >>"), "indexed skipped", "text"),
    Kind("font that maps everything often.pdf", lambda: one_page(stream(_TEXT), font=_FONT[:-2] + b"/ToUnicode 6 0 R >>", more={6: stream(_CMAP)}), "indexed"),
    Kind("drawn letters that draw themselves.pdf", lambda: one_page(stream(_TEXT), font=b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [1 0 0 1 0 0] /FirstChar 0 /LastChar 255 /Widths [] /Encoding << /Differences [66 /B] >> /CharProcs << /B 6 0 R >> /Resources << /Font << /F1 5 0 R >> >> >>", more={6: stream(_TEXT)}), "indexed skipped", "text"),
    Kind("letters for surrogates.pdf", lambda: one_page(stream(_TEXT), font=_FONT[:-2] + b"/ToUnicode 6 0 R >>", more={6: stream(b"begincmap 1 beginbfrange <00> <ff> <D800> endbfrange endcmap")}), "indexed skipped", "text"),
    Kind("a hundred thousand lines that look like a table.pdf", lambda: one_page(stream(_TEXT + b"\n" + b"".join(b"0 %d m 600 %d l S %d 0 m %d 700 l S\n" % (i % 700, i % 700, i % 600, i % 600) for i in range(9_000)))), "indexed"),
    Kind("content in LZW that inflates.pdf", lambda: one_page(stream(_lzw(60), b"/Filter /LZWDecode")), "failed skipped", _KILLED),
    Kind("grid.pdf", lambda: _grid(180), "indexed"),
    Kind("fine grid.pdf", lambda: _grid(1500), "indexed"),
    Kind("encrypted.pdf", lambda: pdf([Page().text(72, 700, "bees")], "secret"), "failed", "encrypted"),
    Kind("encrypted in an unknown way.pdf", lambda: one_page(stream(_TEXT), trailer=b"/Encrypt << /Filter /Bees /V 99 /R 99 >>"), "failed", "encrypted|PDF"),
    Kind("mark alone.pdf", lambda: b"%PDF-1.7\n", "failed", "PDF"),
    Kind("mark and noise.pdf", lambda: b"%PDF-1.7\n" + bytes(range(256)) * 500, "failed", "PDF"),
    Kind("archive behind a document.pdf", lambda: _plain() + b"PK\x03\x04" + bytes(2000), "indexed"),
    Kind("document behind an archive.zip", lambda: b"PK\x03\x04" + bytes(200) + _plain(), "skipped", "unknown-type"),
    Kind("document in a picture.gif", lambda: b"GIF89a" + bytes(20) + _plain(), "failed indexed skipped", "picture|unknown-type|pixels"),
    Kind("page that is a document.html", _plain, "indexed"),
    Kind("two documents.pdf", lambda: _plain() + _plain(), "indexed"),
    Kind("one object a million times.pdf", lambda: one_page(stream(_TEXT)) + b"4 0 obj\nnull\nendobj\n" * 300_000, "indexed failed skipped", "PDF|text"),
]  # fmt: skip


def _bomb_in_object_stream() -> bytes:
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
    table = b"".join(bytes([kind]) + at.to_bytes(4, "big") + more.to_bytes(2, "big") for kind, at, more in rows)
    out += b"8 0 obj\n" + stream(table, b"/Type /XRef /Size 9 /W [1 4 2] /Root 1 0 R") + b"\nendobj\n"
    return bytes(out) + b"startxref\n%d\n%%%%EOF\n" % xref
