"""What a parser's memory grows by in one file, however large: `python -m benchmarks.memory.parsers`.

Each case writes a file, has a process of its own parse it, and prints by how much that process's resident
memory ever exceeded what it was after a small file of the same kind (libraries loaded, caches warm).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import chunkers, parsers
from engine.config import DEFAULT_CHUNKER
from engine.errors import ParseError
from engine.models.resolve import resolve_image, resolve_text
from engine.records import ChunkerChoice
from engine.sources.local import local_item
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import Segment
from tests.parsers.pdf_writer import Page, pdf_stream

MIB = 1024 * 1024
SENTENCE = "Bees keep the hive warm, and dance to tell where flowers are. "
PARAGRAPH = SENTENCE * 8 + "\n\n"
CELLS = f"<tr><td>{SENTENCE}</td><td class='n'>{SENTENCE}</td></tr>\n"

Blocks = Callable[[int], Iterator[bytes]]


def _repeated(head: str, block: str, tail: str = "") -> Blocks:
    """A file of about so many MiB."""

    def blocks(size: int) -> Iterator[bytes]:
        yield head.encode()
        data = (block * (MIB // len(block) + 1)).encode()
        for _ in range(size):
            yield data[:MIB] if len(block) == 1 else data
        yield tail.encode()

    return blocks


def _pages(lines: int) -> Blocks:
    """A PDF of so many pages, this many lines on each."""

    def blocks(count: int) -> Iterator[bytes]:
        pages = (
            Page().lines(72, 740, [f"Page {number}, line {i}: {SENTENCE}" for i in range(lines)])
            for number in range(count)
        )
        yield from pdf_stream(pages, count)

    return blocks


def _pdf_with_tables(count: int) -> Iterator[bytes]:
    rows = [["River", "Length", "Mouth"], *([f"Rhine {i}", f"{i} km", "North Sea"] for i in range(12))]
    yield from pdf_stream((Page().table(72, 700, rows) for _ in range(count)), count)


def _pdf_with_stream(size: int) -> Iterator[bytes]:
    """One page, and a stream of so many MiB that nothing refers to."""
    page = b"".join(pdf_stream([Page().text(72, 700, SENTENCE)], 1))
    xref = page.rindex(b"xref\n0 ")
    begin, end = b"9 0 obj\n<< /Length %d >>\nstream\n" % (size * MIB), b"\nendstream\nendobj\n"
    yield page[:xref] + begin
    for _ in range(size):
        yield bytes(MIB)
    moved = xref + len(begin) + size * MIB + len(end)
    yield end + page[xref:].replace(b"startxref\n%d" % xref, b"startxref\n%d" % moved)


def _picture(kind: str, **options: object) -> Blocks:
    """A picture of so many megapixels, 4 by 3."""

    def blocks(megapixels: int) -> Iterator[bytes]:
        import io

        from PIL import Image

        unit = (megapixels * 1_000_000 / 12) ** 0.5
        out = io.BytesIO()
        Image.radial_gradient("L").resize((int(4 * unit), int(3 * unit))).save(out, kind, **options)
        yield out.getvalue()

    return blocks


def _frames(count: int) -> Iterator[bytes]:
    """A TIFF of so many frames of 12 megapixels, of the same data: what it takes is what one frame takes."""
    import struct

    width, height = 4000, 3000
    strip = bytes(width * height // 2) + b"\x80" * (width * height // 2)
    yield struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip
    at = 8 + len(strip)
    for number in range(count):
        tags = [
            (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, len(strip)),
        ]  # fmt: skip
        at += 2 + 12 * len(tags) + 4
        yield struct.pack("<H", len(tags))
        for tag, kind, value in tags:
            yield struct.pack("<HHII", tag, kind, 1, value)
        yield struct.pack("<I", at if number + 1 < count else 0)


@dataclass(frozen=True)
class Case:
    """A kind of file: `blocks(n)` makes one of `size` MiB, pages, frames or megapixels."""

    name: str
    suffix: str
    unit: str
    size: int
    blocks: Blocks


CASES = [
    Case("text", "txt", "MiB", 5 * 1024, _repeated("", PARAGRAPH)),
    Case("text-one-line", "txt", "MiB", 1024, _repeated("", "x")),
    Case("markdown", "md", "MiB", 1024, _repeated("# Bees\n\n", f"## Part\n\n{PARAGRAPH}")),
    Case(
        "html", "html", "MiB", 1024, _repeated("<html><body>", f"<p>{SENTENCE * 8}</p>\n<ul><li>a<li>b</ul>")
    ),
    Case("html-table", "html", "MiB", 1024, _repeated("<html><body><table>", CELLS)),
    Case("html-one-text", "html", "MiB", 1024, _repeated("<html><body><p>", "bees ")),
    Case("html-one-word", "html", "MiB", 256, _repeated("<html><body><p>", "x")),
    Case("html-attribute", "html", "MiB", 256, _repeated('<html><body><img src="', "QUJD", '"><p>bees')),
    Case(
        "html-script", "html", "MiB", 256, _repeated("<html><body><script>", "bees();\n", "</script><p>bees")
    ),
    Case("html-comment", "html", "MiB", 256, _repeated("<html><body><p>bees<!--", "bees ")),
    Case("html-textarea", "html", "MiB", 256, _repeated("<html><body><textarea>", "bees & <honey>\n")),
    Case("html-unopened", "html", "MiB", 256, _repeated("<html><body>", "</i>x")),
    Case("pdf-5000", "pdf", "pages", 5_000, _pages(40)),
    Case("pdf-100000", "pdf", "pages", 100_000, _pages(2)),
    Case("pdf-tables", "pdf", "pages", 1_000, _pdf_with_tables),
    Case("pdf-stream", "pdf", "MiB", 512, _pdf_with_stream),
    Case("tiff", "tiff", "frames", 500, _frames),
    Case("jpeg", "jpg", "MP", 300, _picture("JPEG")),
    Case("jpeg-progressive", "jpg", "MP", 300, _picture("JPEG", progressive=True)),
    Case("png", "png", "MP", 300, _picture("PNG", compress_level=1)),
]


def main() -> int:
    """The command."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("case", nargs="*", help=f"of {', '.join(case.name for case in CASES)}")
    arguments.add_argument("--scale", type=float, default=1.0, help="share of the sizes")
    arguments.add_argument("--stage", action="store_true", help="chunk too, with a stand-in model")
    arguments.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.child:
        small, large = options.child
        print(json.dumps(_measure(small, large, options.stage)))
        return 0
    print("| case | file | sections | seconds | grows by MiB | end |\n|---|---|---|---|---|---|", flush=True)
    for case in CASES:
        if options.case and case.name not in options.case:
            continue
        size = max(1, int(case.size * options.scale))
        with tempfile.TemporaryDirectory() as folder:
            small, large = (f"{folder}/{name}.{case.suffix}" for name in ("small", "large"))
            for path, count in ((small, 1), (large, size)):
                with open(path, "wb") as file:
                    file.writelines(case.blocks(count))
            command = [sys.executable, "-m", "benchmarks.memory.parsers", "--child", small, large]
            command += ["--stage"] if options.stage else []
            got = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            about = f"{size:,} {case.unit}, {os.path.getsize(large) // MIB:,} MiB"
        print(
            f"| {case.name} | {about} | {got['sections']:,} | {got['seconds']:.1f} | {got['grown']:.0f} |"
            f" {got['end']} |",
            flush=True,
        )
    return 0


def _measure(small: str, large: str, chunk: bool) -> dict[str, object]:
    _parse(small, chunk)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    started = time.monotonic()
    sections, end = _parse(large, chunk)
    seconds = time.monotonic() - started
    return {
        "sections": sections,
        "seconds": seconds,
        "grown": (_status("VmHWM") - before) / 1024,
        "end": end,
    }


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(field)


def _parse(path: str, chunk: bool) -> tuple[int, str]:
    image = resolve_image("stand-in:8")
    count = 0
    if chunk:
        spec = resolve_text("stand-in:384")
        stage = ParseStage(spec, chunkers.make(spec, ChunkerChoice(DEFAULT_CHUNKER)), lambda: image)
        end = "parsed"
        for item in stage.parse(FileJob(1, local_item(path))):
            count += isinstance(item, Segment)
            if isinstance(item, FileEnd):
                end = f"{item.outcome} {item.rule} {item.message}".strip()
        return count, end
    try:
        file, options = parsers.LocalFile(path), parsers.ParseOptions(lambda: image)
        for _ in parsers.parse(file, parsers.detect(file, path), options):
            count += 1
    except ParseError as error:
        return count, f"{error.error_type}: {error}"
    return count, "parsed"


if __name__ == "__main__":
    sys.exit(main())
