"""Does one parser process stay as small after 20,000 small files as after 1,000?

    python -m benchmarks.memory.many_files [--files 20000]

One parse stage, as a parser process has it, takes small files of nine kinds in turn, no two alike, and this
prints its resident memory on the way: in all, and what `malloc_trim` leaves of it.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engine import chunkers
from engine.config import DEFAULT_CHUNKER
from engine.machine.allocator import release, resident_bytes
from engine.models.resolve import resolve_image
from engine.models.spec import TextSpec
from engine.records import ChunkerChoice
from engine.sources.local import local_item
from engine.stages.parse import FileEnd, FileJob, ParseStage
from tests.parsers.pdf_writer import Page, pdf

LETTERS = "abcdefghijklmnopqrstuvwxyz"
KINDS = ("md", "html", "py", "pdf", "png", "jpg", "tiff", "txt", "gif")


def words(source: random.Random, count: int) -> str:
    """Text whose words are new each time, so that whatever keeps words grows."""
    return " ".join("".join(source.choices(LETTERS, k=source.randint(2, 9))) for _ in range(count))


def content(kind: str, number: int) -> bytes:
    """A file of a few kilobytes."""
    source = random.Random(number)
    if kind == "html":
        names = " ".join(f"data-{word}='{word}'" for word in words(source, 5).split())
        paragraphs = "".join(f"<p {names}>{words(source, 60)}.</p>" for _ in range(8))
        return f"<html><head><title>{number}</title></head><body>{paragraphs}</body></html>".encode()
    if kind == "pdf":
        table = [["River", "Length"], [words(source, 1), str(number)], ["Elbe", "1"]]
        return pdf([Page().text(72, 720, words(source, 9)).table(72, 700, table) for _ in range(2)])
    if kind in ("png", "jpg", "tiff", "gif"):
        out = io.BytesIO()
        size = (source.randint(100, 600), source.randint(100, 600))
        color = tuple(source.choices(range(256), k=3))
        Image.new("RGB", size, color).save(out, {"jpg": "jpeg"}.get(kind, kind))
        return out.getvalue()
    if kind == "txt":
        return f"Größe, naïve, façade: {words(source, 400)}".encode("cp1252")
    return words(source, 600).encode()


def spec(folder: Path) -> TextSpec:
    """A model with a BPE tokenizer, the kind that keeps a cache."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([words(random.Random(0), 20_000)], trainer)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return TextSpec("bpe", None, "digest", 384, True, 256, "ids", str(path))


def main() -> int:
    """The command."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--files", type=int, default=20_000)
    arguments.add_argument("--kind", choices=KINDS, action="append", help="these only")
    options = arguments.parse_args()
    kinds = options.kind or KINDS
    image = resolve_image("stand-in:224")
    with tempfile.TemporaryDirectory() as folder:
        model = spec(Path(folder))
        stage = ParseStage(model, chunkers.make(model, ChunkerChoice(DEFAULT_CHUNKER)), lambda: image)
        print("| files | resident MiB | after malloc_trim |\n|---|---|---|")
        for number in range(options.files + 1):
            if number % max(1, options.files // 20) == 0:
                before = resident_bytes()
                release()
                print(f"| {number:,} | {before / 2**20:.1f} | {resident_bytes() / 2**20:.1f} |", flush=True)
            kind = kinds[number % len(kinds)]
            path = Path(folder, f"file.{kind}")
            path.write_bytes(content(kind, number))
            job = FileJob(number, local_item(str(path)))
            *_, end = stage.parse(job)
            assert isinstance(end, FileEnd)
            if end.outcome != "parsed":
                raise RuntimeError(f"{kind}: {end}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
