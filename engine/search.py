"""`python -m engine.search QUERY --adapter URL`: the nearest texts and pictures by the index's models."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TypeAlias

import numpy as np

import adapters
from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Filters
from engine.cli.exits import command, run_and_exit
from engine.cli.options import add_model_options
from engine.cli.parser import command_parser
from engine.cli.terminal import harmless, say
from engine.config import DEFAULT_ADAPTER
from engine.errors import EXIT_DONE, UsageError
from engine.models.choices import check_backend
from engine.models.load import load_caption, load_text
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.records import Hit, IndexSchema, Kind, ModelInfo, Vector

KINDS: tuple[Kind, ...] = ("text", "image")

#: Hits of each kind where nothing else is asked for.
DEFAULT_K = 10

#: Ranks of each list that a hybrid search merges, at least.
FUSED_RANKS = 100

#: What is added to a rank before the reciprocal is taken: the constant of Cormack and others (2009).
RANK_OFFSET = 60

#: Characters of a hit's text that are shown.
SNIPPET_CHARACTERS = 300

#: Widest line of the output in columns.
LINE_COLUMNS = 100

#: The headings of the output.
HEADINGS: dict[Kind, str] = {"text": "texts", "image": "pictures"}

Hits: TypeAlias = dict[Kind, list[Hit]]


def find(
    query: str,
    url: str,
    k: int = DEFAULT_K,
    kinds: Sequence[Kind] = KINDS,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    filters: Filters = NO_FILTERS,
    hybrid: bool = False,
    backend: str = "auto",
    exact: bool = False,
) -> Hits:
    """The k nearest records of each kind, best first; a kind of which the index holds nothing is left out.

    With `hybrid`, texts that are near and texts that share words with the query are merged by their ranks
    (`fused`), where the database can search by words; pictures have none. With `exact`, all vectors are
    compared, whatever index there is of them, where the database can do that.

    The models are those that the index was made with, and one is loaded only where there is something that
    it could find. Raises `UsageError` where there is no index, or its models are not to be had here, and
    `DatabaseUnavailableError` where the database doesn't answer.
    """
    if not query.strip():
        raise UsageError("the query is empty: give at least one word")
    if k < 1:
        raise UsageError(f"-k {k}: give a whole number of at least 1")
    check_backend(backend, device, dtype)
    with closing(adapters.connect(url, AdapterOptions(exact=exact))) as adapter:
        able = adapter.capabilities
        if hybrid and not able.words:
            raise UsageError(f"--hybrid: {url}: {adapters.lacking('words')}")
        if filters != NO_FILTERS and not able.filters:
            raise UsageError(f"--source-prefix, --media-type: {url}: {adapters.lacking('filters')}")
        schema = adapter.schema()
        if schema is None:
            raise UsageError(
                f"{url}: no index there; python -m engine.run INPUT... --adapter {url} makes one"
            )
        held = [kind for kind in kinds if _holds(adapter, schema, kind)]
        # All before any is loaded: a refusal shall not take as long as loading a model.
        specs = {kind: _spec(url, schema, kind, trust_remote_code) for kind in held}
        wide = max(k, FUSED_RANKS)
        shared = adapter.search_words(query, wide, filters) if hybrid and "text" in kinds else []
        found: Hits = {}
        for kind, spec in specs.items():
            vector = _vector(spec, query, device, dtype, backend)
            if hybrid and kind == "text":
                found[kind] = fused([adapter.search(kind, vector, wide, filters), shared], k)
            else:
                found[kind] = adapter.search(kind, vector, k, filters)
        return found


def fused(rankings: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The k best of several rankings by reciprocal rank: a hit scores the sum of 1 / (60 + its rank).

    Ranks alone count, since a cosine and a BM25 score have no common measure (Cormack, Clarke, Büttcher,
    "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009).
    """
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (RANK_OFFSET + rank)
            hits.setdefault(hit.id, hit)
    best = sorted(scores, key=lambda one: (-scores[one], one))[:k]
    return [replace(hits[one], score=scores[one]) for one in best]


def _model(schema: IndexSchema, kind: Kind) -> ModelInfo | None:
    return schema.text_model if kind == "text" else schema.image_model


def _holds(adapter: Adapter, schema: IndexSchema, kind: Kind) -> bool:
    """Whether the index holds any record of the kind; an index of pictures may name a text model too."""
    model = _model(schema, kind)
    if model is None:
        return False
    any_direction = np.full(model.dimensions, model.dimensions**-0.5, dtype=np.float32)
    return bool(adapter.search(kind, any_direction, 1))


def _spec(url: str, schema: IndexSchema, kind: Kind, trust_remote_code: bool) -> TextSpec | ImageSpec:
    """The model of that kind by the name in the index, if it still is what the index was made with."""
    made_with = _model(schema, kind)
    if made_with is None:
        raise UsageError(f"{url}: the index names no {kind} model")
    without = f"--kind {'image' if kind == 'text' else 'text'} does without"
    try:
        spec: TextSpec | ImageSpec
        if kind == "text":
            spec = resolve_text(made_with.name, trust_remote_code=trust_remote_code)
        else:
            spec = resolve_image(made_with.name)
    except UsageError as error:
        raise UsageError(
            f"{url}: the index was made with {kind} model {made_with.name}, which is not to be had here:"
            f" {error} ({without})"
        ) from error
    if (spec.digest, spec.dimensions) != (made_with.digest, made_with.dimensions):
        raise UsageError(
            f"{url}: the index was made with {kind} model {_described(made_with)}; under that name"
            f" here is {_described(spec.info)}: bring back the files of the first, or index anew with the"
            f" second ({without})"
        )
    return spec


def _described(model: ModelInfo) -> str:
    return f"{model.name} ({model.dimensions} dimensions, digest {model.digest[:12]})"


def _vector(spec: TextSpec | ImageSpec, query: str, device: str, dtype: str, backend: str) -> Vector:
    if isinstance(spec, TextSpec):
        # What loads fastest: a single query is not worth a calibration, nor what it may have chosen.
        return load_text(spec, device, dtype, backend, measure=False).embed_query(query)
    return load_caption(spec, device, dtype).embed_query(query)


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


def as_json(query: str, hits: Hits) -> str:
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


def as_lines(query: str, hits: Hits) -> Iterator[str]:
    """What a person reads: for each kind rank, score, source and page, and what it says there."""
    width = max(40, min(LINE_COLUMNS, shutil.get_terminal_size((LINE_COLUMNS, 24)).columns))
    for number, (kind, found) in enumerate(hits.items()):
        if number:
            yield ""
        yield HEADINGS[kind]
        for rank, hit in enumerate(found, 1):
            page = "" if hit.page is None else f" (page {hit.page})"
            yield f"{rank:3}  {hit.score:.3f}  {harmless(hit.source)}{page}"
            if hit.text is not None:
                indent = " " * 5
                said = snippet(hit.text, query)
                yield textwrap.fill(said, width, initial_indent=indent, subsequent_indent=indent)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "search", "Search an index by meaning: texts, and pictures by words that describe them."
    )
    add = parser.add_argument
    add("query", metavar="QUERY", help="what to look for, in quotes")
    add("--adapter", default=DEFAULT_ADAPTER, metavar="URL", help=f"the index (default {DEFAULT_ADAPTER})")
    add("-k", type=int, default=DEFAULT_K, metavar="N", help=f"hits of each kind (default {DEFAULT_K})")
    add("--kind", choices=KINDS, help="only texts, or only pictures (default: both)")
    add("--source-prefix", metavar="PATH", help="only records whose source begins so, such as /data/manuals/")
    add("--media-type", metavar="TYPE", help="only records of files of this type, such as application/pdf")
    add(
        "--hybrid",
        action="store_true",
        help="merge nearness with shared words (BM25), where the database can",
    )
    add("--exact", action="store_true", help="compare all vectors, without an index, where the database can")
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
    hits = find(
        query,
        args.adapter,
        args.k,
        kinds,
        args.device,
        args.dtype,
        args.trust_remote_code,
        Filters(args.source_prefix, args.media_type),
        args.hybrid,
        args.backend,
        args.exact,
    )
    if not hits:
        what = HEADINGS[args.kind] if args.kind else "records"
        say("search", f"{args.adapter}: the index holds no {what}")
    if args.json:
        print(as_json(query, hits))
    else:
        for line in as_lines(query, hits):
            print(line)
    return EXIT_DONE


if __name__ == "__main__":
    run_and_exit(main)
