"""Each format keeps the contract."""

from __future__ import annotations

import io

from PIL import Image

from engine.models.spec import ImageSpec
from engine.parsers import ParseOptions
from tests.parsers.contract import ParserContract
from tests.parsers.pdf_writer import Page, pdf

SPEC = ImageSpec("model", None, "digest", 8, True, (8, 8), (0, 0, 0), (1, 1, 1), "shortest", "bicubic")
SENTENCE = "Bees keep the hive warm, größer or not. "
LIBRARIES = frozenset(
    {"PIL", "lxml", "trafilatura", "pypdfium2", "pdfplumber", "charset_normalizer", "markdown_it"}
)


class TestText(ParserContract):
    name, media_type, file_name, libraries = "text", "text/x-rst", "bees.rst", LIBRARIES

    def content(self) -> bytes:
        return (SENTENCE * 60).encode("utf-16")


class TestMarkdown(ParserContract):
    name, media_type, file_name, libraries = "markdown", "text/markdown", "bees.md", LIBRARIES

    def content(self) -> bytes:
        parts = (f"## Part {i}\n\n{SENTENCE * 5}\n\nDetail\n---\n\n{SENTENCE * 12}\n" for i in range(6))
        return ("# Bees\n\n" + "\n".join(parts)).encode()


class TestHtml(ParserContract):
    name, media_type, file_name, libraries = "html", "text/html", "bees.html", LIBRARIES

    def content(self) -> bytes:
        parts = (f"<h2>Part {i}</h2><p>{SENTENCE * 5}</p><p>{SENTENCE * 12}</p>" for i in range(6))
        return f"<html><title>Bees</title><body><h1>About bees</h1>{''.join(parts)}</body>".encode()


class TestPdf(ParserContract):
    name, media_type, file_name, libraries = "pdf", "application/pdf", "bees.pdf", LIBRARIES

    def content(self) -> bytes:
        lines = [SENTENCE[:38]] * 12
        pages = [Page().text(72, 720, f"Part {i}").lines(72, 700, lines) for i in range(5)]
        marks = [(1, "Bees", 0), *((2, f"Part {i}", i) for i in range(5) if i != 3)]
        return pdf(pages, title="On bees", bookmarks=marks)


class TestPictures(ParserContract):
    name, media_type, file_name, libraries = "image", "image/tiff", "bees.tiff", LIBRARIES

    def content(self) -> bytes:
        frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "green", "blue")]
        out = io.BytesIO()
        frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
        return out.getvalue()

    def options(self) -> ParseOptions:
        return ParseOptions(image_spec=lambda: SPEC)
