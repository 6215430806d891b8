"""How many characters a second does one core bring through the whole parser stage?

Files of manuals as HTML, and their text as plain text and as Markdown: read, parsed, cut, tokenised for
MiniLM-L6, and each segment encoded as it would be sent. Characters are those of the files, markup included;
the table has those of the text too. CPU seconds of one process.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome, interleaved, spread
from engine import chunkers, parsers
from engine.config import DEFAULT_CHUNKER
from engine.models.resolve import resolve_text
from engine.records import ChunkerChoice, TextSection
from engine.sources.local import local_item
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import TextSegment

#: Characters a second.
GOAL = 1_000_000

#: The manuals: pages by language below the handbook's folder, and others in English.
HANDBOOK = "usr/share/doc/debian-handbook/html"

#: Least bytes of a page: tables of contents are no prose.
LEAST_PAGE = 4096


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")
    add("--megabytes", type=float, default=2.0, metavar="MB", help="of each kind (default 2)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    outcome = Outcome()
    folders = debian.unpacked(args.packages or work / "packages", debian.DOCUMENTS)
    kinds = corpora(folders, work / "corpora", args.megabytes * 1e6)
    spec = resolve_text()
    stage = ParseStage(spec, chunkers.make(spec, ChunkerChoice(DEFAULT_CHUNKER)), lambda: None)
    done: dict[str, tuple[int, int, int]] = {}

    def through(kind: str, files: Sequence[Path]) -> None:
        done[kind] = _through(stage, files)

    works = {kind: (lambda k=kind, f=files: through(k, f)) for kind, files in kinds.items()}
    timed = interleaved(works, args.rounds)
    for kind, one in timed.items():
        chunks, characters, sent = done[kind]
        read = sum(len(path.read_text(encoding="utf-8")) for path in kinds[kind])
        rates = [read / seconds for seconds in one.cpu]
        row = {
            "kind": kind,
            "files": len(kinds[kind]),
            "chunks": f"{chunks:,}",
            "characters/s": spread(rates),
            "of text": f"{characters / one.median:,.0f}",
            "µs a chunk": f"{1e6 * one.median / chunks:,.0f}",
            "bytes sent a chunk": f"{sent / chunks:,.0f}",
        }
        outcome.rows.append(row)
        outcome.goal(f"characters/s, {kind}", read / one.median, GOAL, ",.0f")
    return outcome


def corpora(folders: Sequence[Path], made: Path, size: float) -> dict[str, list[Path]]:
    """Files by kind, some `size` bytes of each."""
    handbook = folders[0] / HANDBOOK
    pages = [
        path
        for path in debian.files([handbook / "en-US", *folders[1:]], ".html")
        if path.stat().st_size >= LEAST_PAGE
    ]
    kinds: dict[str, list[Path]] = {"HTML": _up_to(pages, size)}
    texts = ["\n\n".join(_text(path) for path in _up_to(pages, 3 * size))]
    texts += [
        "\n\n".join(map(_text, debian.files([handbook / name], ".html"))) for name in ("de-DE", "ja-JP")
    ]
    made.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("text", "text, German", "text, Japanese"), texts, strict=True):
        kinds[name] = [made / f"{name}.txt"]
        kinds[name][0].write_text(text[: int(size)], encoding="utf-8")
    kinds["Markdown"] = [made / "text.md"]
    paragraphs = texts[0][: int(size)].split("\n\n")
    marked = (f"## Part {i}\n\n{text}" if i % 5 == 0 else text for i, text in enumerate(paragraphs))
    kinds["Markdown"][0].write_text("\n\n".join(marked), encoding="utf-8")
    return kinds


def _up_to(paths: Sequence[Path], size: float) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if size <= 0:
            break
        found.append(path)
        size -= path.stat().st_size
    return found


def _text(path: Path) -> str:
    sections = parsers.parse(parsers.LocalFile(str(path)), "text/html", parsers.ParseOptions())
    return "".join(section.text for section in sections if isinstance(section, TextSection))


def _through(stage: ParseStage, files: Sequence[Path]) -> tuple[int, int, int]:
    """Chunks, their characters, and the bytes of the messages."""
    chunks = characters = sent = 0
    for path in files:
        for item in stage.parse(FileJob(1, local_item(str(path)))):
            if isinstance(item, TextSegment):
                sent += len(ForkingPickler.dumps(item))
                chunks += len(item.ids)
                characters += sum(map(len, item.texts))
            elif isinstance(item, FileEnd) and item.outcome == "failed":
                raise BenchError(f"{path}: {item.message}")
    return chunks, characters, sent
