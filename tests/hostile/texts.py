"""Hostile text, Markdown and source code, and files that pretend to be some."""

from __future__ import annotations

import codecs
import io
import random
import zipfile

from tests.hostile.kind import Kind, cuts, flips

PROSE = "Bees keep the hive warm. They dance to tell where flowers are.\n\n"
GREEK = "Οι μέλισσες κρατούν την κυψέλη ζεστή. Χορεύουν για να πουν πού είναι τα λουλούδια. "
JAPANESE = "蜂は巣を暖かく保ちます。花のありかを踊って知らせます。"


def _markdown() -> bytes:
    return "".join(f"# Part {i}\n\n{GREEK * 3}{PROSE}- one\n- two\n\n" for i in range(8)).encode()


def _source() -> bytes:
    return "".join(
        f"def bees_{i}(hive: int) -> int:\n    return hive + {i}\n\n\n" for i in range(60)
    ).encode()


def _wide(order: str) -> bytes:
    return (GREEK * 30).encode(order)


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bees.txt", PROSE * 50)
    return out.getvalue()


def _noise(size: int, seed: int = 3) -> bytes:
    return random.Random(seed).randbytes(size)


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    return f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY l0 "ha">{entities}]><l>&l9;</l>'.encode()


KINDS = [
    *cuts("greek.md", _markdown, "indexed"),
    *cuts("wide.txt", lambda: codecs.BOM_UTF16_LE + _wide("utf-16-le"), "indexed"),
    *cuts("source.py", _source, "indexed"),
    *flips("greek.md", _markdown, "indexed"),
    *flips("wide.txt", lambda: codecs.BOM_UTF16_LE + _wide("utf-16-le"), "indexed"),
    *flips("source.py", _source, "indexed"),
    Kind("empty.txt", lambda: b"", "skipped", "empty"),
    Kind("blank space alone.md", lambda: b" \n\t\r\n" * 10_000, "skipped", "no-text"),
    Kind("byte order mark alone.txt", lambda: codecs.BOM_UTF8, "skipped", "no-text"),
    Kind("half a UTF-16 character.txt", lambda: codecs.BOM_UTF16_BE + b"\x04", "indexed"),
    Kind(
        "lone surrogates in UTF-8.txt",
        lambda: PROSE.encode() * 20 + b"\xed\xa0\x80\xed\xbf\xbf" * 5,
        "indexed",
    ),
    Kind(
        "lone surrogates in UTF-16.txt",
        lambda: codecs.BOM_UTF16_LE + _wide("utf-16-le") + b"\x00\xd8" * 50 + _wide("utf-16-le"),
        "indexed",
    ),
    Kind(
        "NULs in text.txt",
        lambda: PROSE.encode() * 10 + bytes(100) + PROSE.encode() * 200,
        "skipped",
        "unknown-type",
    ),
    Kind("NULs alone.txt", lambda: bytes(100_000), "skipped", "unknown-type"),
    Kind("control characters.txt", lambda: bytes(range(1, 32)) * 100, "skipped", "unknown-type"),
    Kind("noise.txt", lambda: _noise(200_000), "skipped", "unknown-type"),
    Kind("text that turns into noise.txt", lambda: PROSE.encode() * 500 + _noise(100_000), "indexed"),
    Kind("one line of 50 MB.txt", lambda: b"x" * 50_000_000, "indexed"),
    Kind("one word of accents.txt", lambda: b"e" + "\u0301".encode() * 300_000, "indexed"),
    Kind("joined emoji.txt", lambda: "\U0001f469\u200d".encode() * 60_000, "indexed"),
    Kind("flags without end.txt", lambda: "\U0001f1e9".encode() * 60_000, "indexed"),
    Kind("right to left marks.txt", lambda: "\u202e\u2066bees\u2069".encode() * 20_000, "indexed"),
    Kind("full stops.txt", lambda: b"." * 400_000, "indexed"),
    Kind("quotes.txt", lambda: b"." + b"\"')]" * 100_000, "indexed"),
    Kind("blanks between letters.txt", lambda: b"a" + b" " * 300_000 + b"b", "indexed"),
    Kind("line ends.txt", lambda: b"a" + b"\r\n" * 200_000 + b"b" + b"\r \n\t" * 50_000, "indexed"),
    Kind(
        "five encodings.txt",
        lambda: b"\n".join(
            (text * 20).encode(name)
            for text, name in (
                (GREEK, "utf-8"),
                (GREEK, "cp1253"),
                (JAPANESE, "shift_jis"),
                (JAPANESE, "utf-16-le"),
                ("Größe, Äpfel. ", "latin-1"),
            )
        ),
        "indexed skipped",
    ),
    Kind(
        "Latin-1 behind a UTF-8 mark.txt",
        lambda: codecs.BOM_UTF8 + "Größe. ".encode("latin-1") * 90,
        "indexed",
    ),
    Kind(
        "UTF-32.txt", lambda: codecs.BOM_UTF32_BE + _wide("utf-32-be") + b"\x7f\xff\xff\xff" * 40, "indexed"
    ),
    Kind(
        "detector's horror.txt",
        lambda: bytes(random.Random(5).choices(range(0x80, 0x100), k=300_000)),
        "indexed",
    ),
    Kind("comments without a page.md", lambda: b"<!---->" * 1000 + b" bees", "indexed"),
    Kind("deep JSON.json", lambda: b"[" * 500_000 + b"]" * 500_000, "indexed"),
    Kind("billion laughs.xml", laughs, "indexed"),
    Kind("zip behind text.txt", lambda: PROSE.encode() * 200 + _zip(), "indexed"),
    Kind("text that is a zip.txt", _zip, "skipped", "unknown-type"),
    Kind("program.py", lambda: b"\x7fELF\x02\x01\x01" + bytes(9) + _noise(5000), "skipped", "unknown-type"),
    Kind("script and archive.sh", lambda: b"#!/bin/sh\nexec tail\n" + _zip(), "skipped", "unknown-type"),
]
