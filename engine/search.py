"""`python -m engine.search QUERY --adapter URL`: prints the nearest texts and pictures."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

from adapters.base import Filters
from engine.api.hits import absolute_prefix
from engine.api.searcher import DEFAULT_K, KINDS, IndexSearch
from engine.cli.exits import command, run_and_exit
from engine.cli.options import add_model_options
from engine.cli.parser import command_parser, count
from engine.cli.terminal import harmless, say
from engine.config import DEFAULT_ADAPTER
from engine.errors import EXIT_DONE
from engine.records import Hit, Kind

#: Characters of a hit's text that are shown.
SNIPPET_CHARACTERS = 300

#: Widest line of the output in columns.
LINE_COLUMNS = 100

#: The headings of the output.
HEADINGS: dict[Kind, str] = {"text": "texts", "image": "pictures"}

FoundHits: TypeAlias = dict[Kind, list[Hit]]


def snippet(text: str, query: str, size: int = SNIPPET_CHARACTERS) -> str:
    """About `size` characters on one line: where `text` holds most of the query's words, or its start.

    What would act on a terminal is written as an escape.
    """
    line = " ".join(text.split())
    start = 0
    if len(line) > size:
        start = _best_start(line, query, size)
    end = len(line)
    if end - start > size:
        end = start + size
        space = line.rfind(" ", start + size // 2, end)
        end = space if space > 0 else end
    shown = ("… " if start else "") + line[start:end] + (" …" if end < len(line) else "")
    return harmless(shown)


def _best_start(line: str, query: str, size: int) -> int:
    """Where the window of `size` characters begins that has the most of the query's words, the earliest one.

    A word of the text counts if it begins as a word of the query; long ones count for more, since the short
    ones are in every text.
    """
    words = sorted(set(re.findall(r"\w+", query)), key=len, reverse=True)
    if not words:
        return 0
    # Scripts without spaces have no edge where a word begins.
    parts = (rf"\b{re.escape(word)}" if word.isascii() else re.escape(word) for word in words)
    found = [(m.start(), m[0].lower()) for m in re.finditer("|".join(parts), line, re.IGNORECASE)]
    lead = size // 4
    best, best_weight = 0, 0
    for place, _ in found:
        inside = {word for start, word in found if place <= start < place + size - lead}
        weight = sum(len(word) for word in inside)
        if weight > best_weight:
            best, best_weight = place, weight
    if best <= lead:
        return 0
    earliest = min(best - lead, len(line) - size)
    sentence = line.rfind(". ", earliest, best)
    return sentence + 2 if sentence >= 0 else line.find(" ", earliest, best) + 1 or earliest


def as_json(query: str, hits: FoundHits) -> str:
    """The documented object, on one line of ASCII, so that every terminal and pipe can carry it."""
    found = {
        "query": query,
        "text": [
            {
                "id": hit.id,
                "source": hit.source,
                "document": hit.document,
                "page": hit.page,
                "title": hit.title,
                "headings": hit.headings,
                "score": hit.score,
                "text": hit.text,
            }
            for hit in hits.get("text", [])
        ],
        "image": [
            {
                "id": hit.id,
                "source": hit.source,
                "document": hit.document,
                "title": hit.title,
                "score": hit.score,
            }
            for hit in hits.get("image", [])
        ],
    }
    return json.dumps(found)


def as_lines(query: str, kind: Kind, hits: Sequence[Hit], group: bool = True) -> Iterator[str]:
    """What a person reads: rank, score, source and place of each hit, and what it says there.

    With `group`, the hits of one source stand together, below its best one.
    """
    width = max(40, min(LINE_COLUMNS, shutil.get_terminal_size((LINE_COLUMNS, 24)).columns))
    groups: dict[str | int, list[tuple[int, Hit]]] = {}
    for rank, hit in enumerate(hits, 1):
        groups.setdefault(hit.source if group else rank, []).append((rank, hit))
    yield HEADINGS[kind]
    for members in groups.values():
        for number, (rank, hit) in enumerate(members):
            place = _place(hit)
            name = harmless(hit.source) if not number else "  and" if place else "  and another passage"
            yield f"{rank:3}  {hit.score:.3f}  {name}{place}"
            if hit.text is not None:
                indent = " " * 5
                said = snippet(hit.text, query)
                yield textwrap.fill(said, width, initial_indent=indent, subsequent_indent=indent)


def _place(hit: Hit) -> str:
    """Where in its source a hit is."""
    parts = [] if hit.document is None else [harmless(hit.document)]
    parts += [] if hit.page is None else [f"page {hit.page}"]
    return f" ({', '.join(parts)})" if parts else ""


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "search", "Search an index by meaning: texts, and pictures by words that describe them."
    )
    add = parser.add_argument
    add("query", metavar="QUERY", help="what to look for, in quotes")
    add("--adapter", default=DEFAULT_ADAPTER, metavar="URL", help=f"the index (default {DEFAULT_ADAPTER})")
    add("-k", type=count(1), default=DEFAULT_K, metavar="N", help=f"hits of each kind (default {DEFAULT_K})")
    add("--kind", choices=KINDS, help="only texts, or only pictures (default: both)")
    add("--source-prefix", metavar="PATH", help="only records whose source begins so, such as manuals/")
    add("--media-type", metavar="TYPE", help="only records of files of this type, such as application/pdf")
    add(
        "--hybrid",
        action="store_true",
        help="merge nearness with shared words (BM25), where the database can",
    )
    add("--exact", action="store_true", help="compare all vectors, without an index, where the database can")
    add("--no-group", action="store_true", help="by rank alone; else hits of one source stand together")
    add("--json", action="store_true", help="one JSON object on standard output")
    add_model_options(parser)
    return parser


@command("search")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 with or without hits."""
    args = _parser().parse_args(argv)
    # Bytes that are not UTF-8 come in as lone surrogates, which nothing behind this could write again.
    query = os.fsencode(args.query).decode("utf-8", "replace")
    kinds: tuple[Kind, ...] = (args.kind,) if args.kind else KINDS
    prefix = absolute_prefix(args.source_prefix) if args.source_prefix else None
    found: FoundHits = {}
    search = IndexSearch(
        args.adapter,
        device=args.device,
        dtype=args.dtype,
        trust_remote_code=args.trust_remote_code,
        backend=args.backend,
        exact=args.exact,
    )
    with closing(search):
        for kind, hits in search.each(query, args.k, kinds, Filters(prefix, args.media_type), args.hybrid):
            found[kind] = hits
            if hits and not args.json:
                apart = any(found[other] for other in found if other != kind)
                _print(as_lines(query, kind, hits, not args.no_group), apart)
        if not any(found.values()):
            say("search", f"{args.adapter}: no hits; {_why_none(args.kind, search, found)}")
    if args.json:
        print(as_json(query, found))
    return EXIT_DONE


def _print(lines: Iterator[str], apart: bool) -> None:
    """At once, since loading the next model takes longer than reading these."""
    print("\n".join(["", *lines] if apart else lines), flush=True)


def _why_none(kind: Kind | None, search: IndexSearch, found: FoundHits) -> str:
    """What there is in an index where nothing was found."""
    there = str(search.contents())
    return f"it holds no {HEADINGS[kind]}: {there}" if kind and kind not in found else there


if __name__ == "__main__":
    run_and_exit(main)
