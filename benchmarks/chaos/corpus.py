"""The corpus of a storm: healthy files of every kind, copies, and hostile ones, always the same."""

from __future__ import annotations

import random
import shutil
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw

from tests.parsers.pdf_writer import Page, pdf

#: The corpus doesn't depend on the storm's seed, so that storms of several seeds can be compared.
CORPUS_SEED = 5

#: Files that can't be indexed, or not whole, and the state in which each must end.
HOSTILE = {
    "hostile/encrypted.pdf": "failed",
    "hostile/truncated.pdf": "failed",
    "hostile/crashes its parser.pdf": "failed",
    "hostile/broken page.pdf": "partial",
    "hostile/truncated.jpg": "failed",
    "hostile/bomb.png": "failed",
    "hostile/empty.txt": "skipped",
}

#: Shares of the text's bytes: one file that is in mid-file most of the time, middle ones, small ones.
LARGE, MIDDLE, MIDDLE_FILES, SMALL_FILES = 0.4, 0.4, 16, 60

#: Operators that make PDFium take more memory than any parser is given: it aborts the process. 62 MB of them,
#: 123 KB in the file.
PDF_BOMB = b"q " * (60 << 20)

#: Side in pixels of the picture that is refused for its size; its file has 100 KB.
BOMB_SIDE = 30_000

_WORDS = """
the a of to and in that was for on with as had by at which from were their they not but his her
one all lighthouse keeper harbour storm lantern glass oil wick stairs night ship rope chart
tide rock gull beacon winter letter window kettle garden soil seed spade rain cloud river stone
bridge mill bread salt copper wheel ladder barrel candle pocket mountain valley orchard meadow
engine carriage signal station platform measure weight column margin ledger account number page
index shelf drawer cabinet museum curator
"""


def make(folder: Path, megabytes: float) -> None:
    """Write the corpus, with about so many megabytes of text. The same size gives the same bytes."""
    source = random.Random(CORPUS_SEED)
    size = int(megabytes * 1e6)
    _write(folder / "large.txt", prose(source, int(LARGE * size)))
    for number in range(MIDDLE_FILES):
        length = int(MIDDLE * size / MIDDLE_FILES * source.uniform(0.5, 1.5))
        _write(folder / f"middle/{number}.txt", prose(source, length))
    for number in range(SMALL_FILES):
        _write(folder / f"small/{number}.txt", prose(source, source.randint(20, 4000)))
    for number in range(12):
        parts = [f"# Chapter {i}\n\n{prose(source, 3000)}" for i in range(source.randint(1, 20))]
        _write(folder / f"markdown/{number}.md", "\n".join(parts))
    for number in range(6):
        parts = [f"<h2>{i}</h2><p>{prose(source, 1500)}</p>" for i in range(source.randint(2, 8))]
        page = (
            f"<html><head><title>Page {number}</title></head><body><article>{''.join(parts)}</article></body>"
        )
        _write(folder / f"html/{number}.html", page + "</html>")
    _write(folder / "latin.txt", prose(source, 5000).replace("e", "é"), "latin-1")
    for number, pages in enumerate((3, 12, 40, 120)):
        _bytes(folder / f"pdf/{number}.pdf", document(source, pages))
    for number in range(24):
        _picture(source, folder / f"pictures/{number}.{('png', 'jpg')[number % 2]}")
    _hostile(source, folder / "hostile")
    for name in ("middle/0.txt", "small/1.txt", "markdown/2.md", "pdf/1.pdf", "pictures/1.jpg"):
        (folder / "copies").mkdir(exist_ok=True)
        shutil.copy(folder / name, folder / "copies")


def prose(source: random.Random, length: int) -> str:
    """Paragraphs of made sentences, about so many characters."""
    parts: list[str] = []
    while length > 0:
        sentence = " ".join(source.choices(_WORDS.split(), k=source.randint(5, 18))) + ". "
        if source.random() < 0.15:
            sentence += "\n\n"
        parts.append(sentence)
        length -= len(sentence)
    return "".join(parts)


def document(source: random.Random, pages: int) -> bytes:
    """A PDF of so many pages of text."""
    lines = [prose(source, 3000).replace("\n", "") for _ in range(pages)]
    made = []
    for number, text in enumerate(lines, start=1):
        wrapped = [text[i : i + 80] for i in range(0, len(text), 80)]
        made.append(Page().text(72, 740, f"Page {number}").lines(72, 710, wrapped, 10))
    return pdf(made)


def _hostile(source: random.Random, folder: Path) -> None:
    pages = [Page().text(72, 700, f"Page {i} of a document that is not well") for i in range(1, 8)]
    _bytes(folder / "encrypted.pdf", pdf(pages, password="secret"))
    _bytes(folder / "truncated.pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Cat")
    # The fourth page's object is no page any more, at the same length.
    page = b"10 0 obj\n<< /Type /Page /Parent 2 0 R"
    _bytes(folder / "broken page.pdf", pdf(pages).replace(page, b"10 0 obj\n[] % ype /Page /Parent 2 0 R"))
    stream = zlib.compress(PDF_BOMB, 9)
    plain = pdf(pages[:1])
    start = plain.index(b"5 0 obj")
    end = plain.index(b"endobj", start)
    bomb = b"5 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream\n" % (len(stream), stream)
    _bytes(folder / "crashes its parser.pdf", plain[:start] + bomb + plain[end:])
    _picture(source, folder / "truncated.jpg")
    whole = (folder / "truncated.jpg").read_bytes()
    _bytes(folder / "truncated.jpg", whole[: len(whole) // 2])
    _bytes(folder / "bomb.png", _blank_png(BOMB_SIDE))
    _bytes(folder / "empty.txt", b"")


def _picture(source: random.Random, path: Path) -> None:
    width, height = source.randint(80, 500), source.randint(80, 500)
    image = Image.new("RGB", (width, height), tuple(source.choices(range(256), k=3)))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = source.randrange(width), source.randrange(height), source.randint(10, 120)
        draw.ellipse((x, y, x + size, y + size), fill=tuple(source.choices(range(256), k=3)))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _blank_png(side: int) -> bytes:
    """A white picture of one bit a pixel, in very few bytes."""

    def block(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    data = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", data) + block(b"IEND", b"")


def _write(path: Path, text: str, encoding: str = "utf-8") -> None:
    _bytes(path, text.encode(encoding))


def _bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
