"""Make the files of a case, each written piece by piece, in a process of its own.

    python -m benchmarks.memory.corpora mixture FOLDER MB [COPIES]    text, HTML, PDF and pictures, MB a copy
    python -m benchmarks.memory.corpora documents FOLDER MB [COPIES]  texts and PDFs, half of each
    python -m benchmarks.memory.corpora tiny FOLDER FILES             files of one sentence, 1,000 a folder
    python -m benchmarks.memory.corpora text|html|markdown FILE BYTES
    python -m benchmarks.memory.corpora pdf FILE PAGES
    python -m benchmarks.memory.corpora jpeg|png FILE MEGAPIXELS
    python -m benchmarks.memory.corpora tiff FILE FRAMES

The same arguments give the same bytes. What is there already, whole, is left.
"""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.memory.pictures import write_jpeg, write_picture, write_png, write_tiff
from benchmarks.memory.streamed_pdf import write_pdf

#: Shares of a mixture's bytes: one long text, short texts, HTML, PDF. The rest is pictures.
LONG, SHORT, HTML, PDF = 0.3, 0.25, 0.15, 0.1

#: Bytes of a short text, of a page of HTML, and on average of a picture; characters of a PDF's page.
SHORT_BYTES, HTML_BYTES, PICTURE_BYTES, PAGE_CHARACTERS = 20_000, 30_000, 60_000, 2500

#: Pages of a mixture's PDFs; files in one folder of a corpus of tiny ones.
PDF_PAGES, FOLDER_FILES = 40, 1000

#: Sentences of which all text is drawn.
SENTENCES = 20_000

_WORDS = """
the a of to and in that was for on with as had by at which from were their they not but his her one all
lighthouse keeper harbour storm lantern glass oil wick stairs night ship rope chart tide rock gull beacon
winter letter window kettle garden soil seed spade rain cloud river stone bridge mill bread salt copper wheel
ladder barrel candle pocket mountain valley orchard meadow engine carriage signal station platform measure
weight column margin ledger account number page index shelf drawer cabinet museum curator
"""


class Prose:
    """Endless text of made sentences; the same seed gives the same text."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        common, words = random.Random(0), _WORDS.split()
        self.sentences = [
            " ".join(common.choices(words, k=common.randint(5, 18))).capitalize() + "."
            for _ in range(SENTENCES)
        ]

    def paragraphs(self, characters: float) -> Iterator[str]:
        """Paragraphs of some 500 characters, about so many characters in all."""
        while characters > 0:
            # The number makes each paragraph another one, so that no two chunks are equal.
            number = self._random.randrange(10**9)
            text = f"{number}: {' '.join(self._random.choices(self.sentences, k=7))}"
            yield text
            characters -= len(text) + 2

    def lines(self, characters: int) -> list[str]:
        """A page's lines of 80 characters."""
        text = " ".join(self.paragraphs(characters))
        return [text[i : i + 80] for i in range(0, len(text), 80)]


def write_mixture(folder: Path, megabytes: float, copies: float = 1) -> None:
    """The same mixture so many times, each time of other content."""
    for copy in range(int(copies)):
        _write_copy(folder / f"{copy:03d}", Prose(copy), megabytes * 1e6, random.Random(copy))


def _write_copy(folder: Path, prose: Prose, size: float, source: random.Random) -> None:
    folder.mkdir(parents=True)
    write_text(folder / "long.txt", LONG * size, prose)
    for number in range(max(1, round(SHORT * size / SHORT_BYTES))):
        write_text(folder / f"{number}.txt", SHORT_BYTES * source.uniform(0.2, 1.8), prose)
    for number in range(max(1, round(HTML * size / HTML_BYTES))):
        write_html(folder / f"{number}.html", HTML_BYTES * source.uniform(0.2, 1.8), prose)
    for number in range(max(1, round(PDF * size / PDF_PAGES / PAGE_CHARACTERS))):
        write_pdf(folder / f"{number}.pdf", [prose.lines(PAGE_CHARACTERS) for _ in range(PDF_PAGES)])
    rest = 1 - LONG - SHORT - HTML - PDF
    for number in range(max(2, round(rest * size / PICTURE_BYTES))):
        write_picture(folder / f"{number}.{('jpg', 'png')[number % 2]}", source)


def write_documents(folder: Path, megabytes: float, copies: float = 1) -> None:
    """Texts and PDFs, half of the bytes in each, so many times with other content; a copy has at least one of
    each."""
    half = megabytes * 1e6 / 2
    for copy in range(int(copies)):
        prose, below = Prose(copy), folder / f"{copy:03d}"
        below.mkdir(parents=True)
        for number in range(max(1, round(half / SHORT_BYTES))):
            write_text(below / f"{number}.txt", min(half, SHORT_BYTES), prose)
        for number in range(max(1, round(half / PDF_PAGES / PAGE_CHARACTERS))):
            pages = min(PDF_PAGES, max(1, round(half / PAGE_CHARACTERS)))
            write_pdf(below / f"{number}.pdf", [prose.lines(PAGE_CHARACTERS) for _ in range(pages)])


def write_tiny(folder: Path, files: float) -> None:
    """So many files of one sentence each."""
    sentences = Prose(0).sentences
    for number in range(int(files)):
        below = folder / f"{number // FOLDER_FILES:04d}"
        if number % FOLDER_FILES == 0:
            below.mkdir(parents=True)
        (below / f"{number}.txt").write_text(f"{number}: {sentences[number % SENTENCES]}\n", encoding="utf-8")


def write_text(path: Path, size: float, prose: Prose | None = None) -> None:
    """Plain text of so many bytes."""
    with open(path, "w", encoding="utf-8") as file:
        for paragraph in (prose or Prose(1)).paragraphs(size):
            file.write(paragraph + "\n\n")


def write_markdown(path: Path, size: float) -> None:
    """Markdown of so many bytes, a heading before each paragraph."""
    with open(path, "w", encoding="utf-8") as file:
        for number, paragraph in enumerate(Prose(1).paragraphs(size)):
            file.write(f"## Part {number}\n\n{paragraph}\n\n")


def write_html(path: Path, size: float, prose: Prose | None = None) -> None:
    """A page of so many bytes."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("<!doctype html><html><head><title>A page</title></head><body><article>\n")
        for number, paragraph in enumerate((prose or Prose(1)).paragraphs(size)):
            file.write(f"<h2>Part {number}</h2>\n<p>{paragraph}</p>\n")
        file.write("</article></body></html>\n")


def _write_long_pdf(path: Path, pages: float) -> None:
    prose = Prose(1)
    write_pdf(path, (prose.lines(PAGE_CHARACTERS) for _ in range(int(pages))))


MAKERS: dict[str, Callable[..., None]] = {
    "mixture": write_mixture,
    "documents": write_documents,
    "tiny": write_tiny,
    "text": write_text,
    "html": write_html,
    "markdown": write_markdown,
    "pdf": _write_long_pdf,
    "jpeg": write_jpeg,
    "png": write_png,
    "tiff": write_tiff,
}


def main() -> int:
    """The command."""
    if len(sys.argv) < 4 or sys.argv[1] not in MAKERS:
        print(__doc__, file=sys.stderr)
        return 2
    kind, path, sizes = sys.argv[1], Path(sys.argv[2]), [float(size) for size in sys.argv[3:]]
    if path.exists():
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    MAKERS[kind](unfinished, *sizes)
    unfinished.rename(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
