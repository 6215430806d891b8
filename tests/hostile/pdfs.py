"""Hostile PDFs."""

from __future__ import annotations

import zlib

from tests.hostile.kind import Kind, cuts, flips
from tests.hostile.pdf_parts import (
    FONT,
    TEXT,
    bomb_in_object_stream,
    form,
    forms,
    grid,
    lzw,
    nested,
    object_stream,
    one_bad_page,
    one_page,
    operators,
    plain,
    previous,
    referenced_contents,
    stream,
    tree,
    whole,
    xref_of,
)
from tests.hostile.picture_parts import bomb
from tests.parsers.pdf_writer import Page, pdf

LOOPING_OUTLINE = {
    30: b"<< /Type /Outlines /First 31 0 R /Last 31 0 R /Count 2000000000 >>",
    31: b"<< /Title (bees) /Parent 31 0 R /Next 31 0 R /Prev 31 0 R /First 31 0 R >>",
}
CMAP = (
    b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <0000> <ffff> endcodespacerange\n"
    + (b"1 beginbfrange <0000> <ffff> <0000> endbfrange\n" * 2000)
)
_READABLE = "PDF|page|text"

# Only the limits on the parser itself end these: PDFium aborts its process where memory does not suffice.
_KILLED = "memory|SIGABRT|progress"

KINDS = [
    *cuts("book.pdf", plain, "failed indexed partial skipped", _READABLE),
    *flips("book.pdf", plain, "failed indexed partial skipped", _READABLE),
    Kind("content that inflates to 2 GB.pdf", lambda: one_page(nested(1, 300)), "failed partial", "inflate"),
    Kind(
        "content that inflates three times.pdf", lambda: one_page(nested(3, 300)), "failed partial", "inflate"
    ),
    Kind(
        "content that is 40 times compressed.pdf",
        lambda: one_page(nested(40, 1)),
        "indexed skipped failed partial",
        "inflate|text",
    ),
    Kind(
        "content in hexadecimal that inflates.pdf",
        lambda: one_page(stream(bomb(300).hex().encode() + b">", b"/Filter [/ASCIIHexDecode /FlateDecode]")),
        "failed partial",
        "inflate",
    ),
    Kind(
        "runs without end.pdf",
        lambda: one_page(stream(b"\x81 " * 2_000_000, b"/Filter /RunLengthDecode")),
        "skipped failed partial",
        "inflate|text",
    ),
    Kind(
        "content a thousand times over.pdf",
        lambda: referenced_contents(1000, 80),
        "failed partial skipped",
        _KILLED,
    ),
    Kind("object stream that inflates.pdf", bomb_in_object_stream, "failed", "inflate|PDF"),
    Kind(
        "font that inflates.pdf",
        lambda: one_page(
            stream(TEXT),
            font=b"<< /Type /Font /Subtype /TrueType /BaseFont /B /FontDescriptor 6 0 R >>",
            more={
                6: b"<< /Type /FontDescriptor /FontName /B /Flags 4 /FontFile2 7 0 R >>",
                7: nested(1, 300),
            },
        ),
        "failed partial",
        "inflate",
    ),
    Kind(
        "picture that inflates.pdf",
        lambda: one_page(
            stream(b"/I Do " + TEXT),
            b"/XObject << /I 6 0 R >>",
            {
                6: stream(
                    bomb(300),
                    b"/Subtype /Image /Width 30000 /Height 30000 /BitsPerComponent 8 "
                    b"/ColorSpace /DeviceGray /Filter /FlateDecode",
                )
            },
        ),
        "indexed",
    ),
    Kind(
        "predictor of absurd width.pdf",
        lambda: one_page(
            stream(
                zlib.compress(TEXT),
                b"/Filter /FlateDecode /DecodeParms << /Predictor 12 /Columns 2147483647 /Colors 255 >>",
            )
        ),
        "indexed failed skipped partial",
        _READABLE,
    ),
    Kind(
        "page tree in a circle.pdf",
        lambda: whole(
            {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"}
        ),
        "failed skipped",
        _READABLE,
    ),
    Kind("parents in a circle.pdf", lambda: one_page(stream(TEXT), pages=b"/Parent 2 0 R"), "indexed"),
    Kind("page tree of a million pages.pdf", lambda: tree(6, 10), "failed partial", "pages"),
    Kind("page tree of ten to the tenth.pdf", lambda: tree(10, 10), "failed partial", "pages"),
    Kind(
        "two billion pages claimed.pdf",
        lambda: one_page(stream(TEXT)).replace(b"/Count 1", b"/Count 2147483647"),
        "failed partial indexed",
        "page",
    ),
    Kind(
        "less than no pages.pdf",
        lambda: one_page(stream(TEXT)).replace(b"/Count 1", b"/Count -5"),
        "failed partial indexed skipped",
        "page|PDF|text",
    ),
    Kind(
        "no pages.pdf",
        lambda: whole({1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Kids [] /Count 0 >>"}),
        "skipped failed",
        "text|PDF",
    ),
    Kind("no page tree.pdf", lambda: whole({1: b"<< /Type /Catalog >>"}), "failed skipped", "PDF|text"),
    Kind("no catalogue.pdf", lambda: whole({2: b"<< >>"}), "failed", "PDF"),
    Kind("one bad page of five.pdf", lambda: one_bad_page(b"(no page)"), "partial", "page"),
    Kind(
        "form that contains itself.pdf",
        lambda: one_page(
            stream(b"/N Do " + TEXT),
            b"/XObject << /N 20 0 R >>",
            {20: form(b"/N Do", b"/XObject << /N 20 0 R >>")},
        ),
        "indexed",
    ),
    Kind(
        "forms that contain each other.pdf",
        lambda: one_page(
            stream(b"/N Do " + TEXT),
            b"/XObject << /N 20 0 R >>",
            {
                20: form(b"/N Do", b"/XObject << /N 21 0 R >>"),
                21: form(b"/N Do", b"/XObject << /N 20 0 R >>"),
            },
        ),
        "indexed",
    ),
    Kind("ten thousand millions of forms.pdf", lambda: forms(10, 10), "failed partial", _KILLED),
    Kind(
        "outline in a circle.pdf",
        lambda: one_page(stream(TEXT), catalogue=b"/Outlines 30 0 R", more=LOOPING_OUTLINE),
        "indexed",
    ),
    Kind(
        "deep arrays.pdf",
        lambda: one_page(stream(TEXT), page=b"/Deep " + b"[" * 100_000 + b"]" * 100_000),
        "indexed failed skipped partial",
        _READABLE,
    ),
    Kind(
        "deep dictionaries.pdf",
        lambda: one_page(stream(TEXT), catalogue=b"/Deep " + b"<< /A " * 50_000 + b">> " * 50_000),
        "indexed failed skipped",
        _READABLE,
    ),
    Kind("deep content.pdf", lambda: one_page(stream(b"[" * 200_000 + TEXT)), "indexed skipped", "text"),
    Kind("saved states.pdf", lambda: operators(300_000), "indexed"),
    Kind("reference to itself.pdf", lambda: one_page(b"4 0 R"), "skipped failed partial", "text|page"),
    Kind(
        "length in a circle.pdf",
        lambda: one_page(b"<< /Length 4 0 R >>\nstream\n" + TEXT + b"\nendstream"),
        "indexed skipped failed",
        _READABLE,
    ),
    Kind(
        "length of two billion.pdf",
        lambda: one_page(stream(TEXT).replace(b"/Length %d" % len(TEXT), b"/Length 2147483647")),
        "indexed skipped failed",
        _READABLE,
    ),
    Kind("references that go back to themselves.pdf", lambda: previous("itself"), "indexed failed", "PDF"),
    Kind("references that go back to nowhere.pdf", lambda: previous("nowhere"), "indexed failed", "PDF"),
    Kind("a million references.pdf", lambda: xref_of(1_000_000), "indexed failed", "PDF"),
    Kind(
        "two billion objects claimed.pdf",
        lambda: one_page(stream(TEXT)).replace(b"/Size 6", b"/Size 2147483647"),
        "indexed failed",
        "PDF",
    ),
    Kind("object stream inside of itself.pdf", lambda: object_stream(7), "skipped failed", "text|PDF"),
    Kind("object stream inside of another.pdf", lambda: object_stream(6), "skipped failed", "text|PDF"),
    Kind("page of no size.pdf", lambda: one_page(stream(TEXT), box=b"[0 0 0 0]"), "indexed skipped", "text"),
    Kind(
        "page of absurd size.pdf",
        lambda: one_page(stream(TEXT), box=b"[-1e30 -1e30 1e30 1e30]"),
        "indexed skipped partial failed",
        "text|page",
    ),
    Kind(
        "font without a map.pdf",
        lambda: one_page(
            stream(b"BT /F1 11 Tf 72 700 Td <00010002000300040005> Tj ET"),
            font=b"<< /Type /Font /Subtype /Type0 /BaseFont /None "
            b" /Encoding /Identity-H /DescendantFonts ["
            b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /None "
            b"/CIDSystemInfo << /Registry (A) /Ordering (B) /Supplement 0 >> >>] >>",
        ),
        "indexed skipped",
        "text",
    ),
    Kind(
        "font that is its own descendant.pdf",
        lambda: one_page(
            stream(TEXT),
            font=b"<< /Type /Font /Subtype /Type0 /BaseFont /N "
            b"/Encoding /Identity-H /DescendantFonts [5 0 R] >>",
        ),
        "indexed skipped",
        "text",
    ),
    Kind(
        "font that maps everything often.pdf",
        lambda: one_page(stream(TEXT), font=FONT[:-2] + b"/ToUnicode 6 0 R >>", more={6: stream(CMAP)}),
        "indexed",
    ),
    Kind(
        "drawn letters that draw themselves.pdf",
        lambda: one_page(
            stream(TEXT),
            font=b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 9 9] /FontMatrix [1 0 0 1 0 0] "
            b"/FirstChar 0 /LastChar 255 /Widths [] /Encoding << /Differences [66 /B] >> "
            b"/CharProcs << /B 6 0 R >> "
            b"/Resources << /Font << /F1 5 0 R >> >> >>",
            more={6: stream(TEXT)},
        ),
        "indexed skipped",
        "text",
    ),
    Kind(
        "letters for surrogates.pdf",
        lambda: one_page(
            stream(TEXT),
            font=FONT[:-2] + b"/ToUnicode 6 0 R >>",
            more={6: stream(b"begincmap 1 beginbfrange <00> <ff> <D800> endbfrange endcmap")},
        ),
        "indexed skipped",
        "text",
    ),
    Kind(
        "thousands of lines that look like a table.pdf",
        lambda: one_page(
            stream(
                TEXT
                + b"\n"
                + b"".join(
                    b"0 %d m 600 %d l S %d 0 m %d 700 l S\n" % (i % 700, i % 700, i % 600, i % 600)
                    for i in range(4_000)
                )
            )
        ),
        "indexed",
    ),
    Kind(
        "content in LZW that inflates.pdf",
        lambda: one_page(stream(lzw(60), b"/Filter /LZWDecode")),
        "failed skipped",
        _KILLED,
    ),
    Kind("grid.pdf", lambda: grid(180), "indexed"),
    Kind("fine grid.pdf", lambda: grid(1500), "indexed"),
    Kind("encrypted.pdf", lambda: pdf([Page().text(72, 700, "bees")], "secret"), "failed", "encrypted"),
    Kind(
        "encrypted in an unknown way.pdf",
        lambda: one_page(stream(TEXT), trailer=b"/Encrypt << /Filter /Bees /V 99 /R 99 >>"),
        "failed",
        "encrypted|PDF",
    ),
    Kind("mark alone.pdf", lambda: b"%PDF-1.7\n", "failed", "PDF"),
    Kind("mark and noise.pdf", lambda: b"%PDF-1.7\n" + bytes(range(256)) * 500, "failed", "PDF"),
    Kind("archive behind a document.pdf", lambda: plain() + b"PK\x03\x04" + bytes(2000), "indexed"),
    Kind(
        "document behind an archive.zip",
        lambda: b"PK\x03\x04" + bytes(200) + plain(),
        "skipped",
        "unknown-type",
    ),
    Kind(
        "document in a picture.gif",
        lambda: b"GIF89a" + bytes(20) + plain(),
        "failed indexed skipped",
        "picture|unknown-type|pixels",
    ),
    Kind("page that is a document.html", plain, "indexed"),
    Kind("two documents.pdf", lambda: plain() + plain(), "indexed"),
    Kind(
        "one object a million times.pdf",
        lambda: one_page(stream(TEXT)) + b"4 0 obj\nnull\nendobj\n" * 300_000,
        "indexed failed skipped",
        "PDF|text",
    ),
]
