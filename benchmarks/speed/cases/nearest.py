"""From how many records on is an exact search slow, and what does LanceDB's vector index find, at what cost?

Vectors are written through the adapter. At each size a number of queries is searched exactly and, once the
index is built, through it: recall@10 is the share of the exact ten nearest that are found, also among the
records that a filter lets pass (one file in ten). The index is built by another process, in the environment
that the engine gives its indexer, whose highest PSS is given beside what it was before.

Made vectors lie about 2,000 topics, with directions that matter less and less, as those of texts do; without
any topics all are equally far apart, and no index would do. `--texts FOLDER` takes real text instead: windows
of some 60 words of the files below it, embedded by MiniLM. Latencies are by the clock: median of all queries.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import adapters
from adapters.base import Adapter, AdapterOptions, Filters
from benchmarks.command import BenchError
from benchmarks.memory.figures import megabytes
from benchmarks.speed.bench import Outcome
from engine.machine.allocator import return_large_blocks
from engine.machine.environment import CHILD_ENVIRONMENT
from engine.machine.memory import pss_bytes
from engine.records import ChunkerIdentity, IndexSchema, ModelInfo, Record, Vector

#: Neighbours that are asked for, and the share of them that shall be found.
K, GOAL = 10, 0.95

#: Of the made vectors, and of MiniLM's.
DIMENSIONS = 384

TOPICS = 2000

#: Records that are written at once, and of one file.
BATCH, FILE = 2000, 1000

#: Lets one file in ten pass.
FILTER = Filters(source_prefix="/files/7")

#: Seconds between two looks at a process's memory.
INTERVAL_S = 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[100_000, 250_000, 1_000_000], metavar="N",
        help="records in the index (default 100000 250000 1000000)")  # fmt: skip
    add("--queries", type=int, default=50, metavar="N", help="(default 50)")
    add("--kind", default="ivf_rq", help="of index (default ivf_rq)")
    add("--texts", type=Path, metavar="FOLDER", help="take real text; one size, at most so many windows")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    folder = work / "nearest"
    shutil.rmtree(folder, ignore_errors=True)
    sizes = sorted(args.sizes)
    batches = _made() if args.texts is None else iter([_embedded(args.texts, sizes[-1] + args.queries)])
    first = next(batches)
    queries, rest = first[: args.queries], first[args.queries :]
    if args.texts is not None:
        sizes = [len(rest)]
    written = 0
    for size in sizes:
        with_index = f"lancedb://{folder}"
        writer = _open(with_index)
        while written < size:
            if not len(rest):
                rest = next(batches)
            count = min(BATCH, size - written, len(rest))
            writer.write(_records(rest[:count], written), False)
            written, rest = written + count, rest[count:]
        writer.close()
        _publish(with_index, "exact")
        built = _publish(with_index, args.kind)
        _measure(outcome, size, with_index, queries, built, folder)
    return outcome


def _measure(
    outcome: Outcome, size: int, url: str, queries: Vector, built: dict[str, float], folder: Path
) -> None:
    exact, indexed = (adapters.connect(url, AdapterOptions(exact=exact)) for exact in (True, False))
    row: dict[str, object] = {"records": f"{size:,}"}
    recalls = []
    for name, filters in (("", Filters()), (", one file in ten", FILTER)):
        wanted, slow = _ask(exact, queries, filters)
        found, fast = _ask(indexed, queries, filters)
        shares = [len(a & b) / max(1, len(b)) for a, b in zip(found, wanted, strict=True)]
        recalls.append(statistics.fmean(shares))
        row |= {f"exact, ms{name}": f"{slow:.0f}", f"index, ms{name}": f"{fast:.0f}"}
        row[f"recall@10{name}"] = f"{recalls[-1]:.3f}"
    row |= {
        "built, s": f"{built['seconds']:.1f}",
        "PSS before, MB": megabytes(built["before"]),
        "highest, MB": megabytes(built["peak"]),
        "index, MB": megabytes(built["index"]),
    }
    outcome.rows.append(row)
    for adapter in (exact, indexed):
        adapter.close()
    outcome.goal(f"recall@10 of {size:,}, the lower of both", min(recalls), GOAL, ".3f")


def _ask(adapter: Adapter, queries: Vector, filters: Filters) -> tuple[list[set[str]], float]:
    """The ids found for each query, and the median of ms; the first, which opens files, isn't timed."""
    adapter.search("text", queries[0], K, filters)
    found, times = [], []
    for query in queries:
        began = time.perf_counter()
        hits = adapter.search("text", query, K, filters)
        times.append(1000 * (time.perf_counter() - began))
        found.append({hit.id for hit in hits})
    return found, statistics.median(times)


def _open(url: str) -> Adapter:
    adapter = adapters.connect(url)
    adapter.ensure_schema(
        IndexSchema(ModelInfo("made", "d" * 64, DIMENSIONS, True), None, ChunkerIdentity.from_key("nearest"))
    )
    adapter.prepare()
    return adapter


def _made() -> Iterator[Vector]:
    """Unit vectors about topics, float32 [n, 384], again and again."""
    chance = np.random.default_rng(1)
    scale = (1 + np.arange(DIMENSIONS) / 8) ** -0.5
    turn = np.linalg.qr(chance.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
    topics = chance.standard_normal((TOPICS, DIMENSIONS)) * scale
    while True:
        apart = 0.9 * chance.standard_normal((BATCH, DIMENSIONS)) * scale
        vectors = (topics[chance.integers(0, TOPICS, BATCH)] + apart) @ turn
        yield (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _embedded(folder: Path, most: int) -> Vector:
    """At most so many windows of the texts below the folder, in any order, embedded by MiniLM."""
    from benchmarks.elasticsearch.recall import windows
    from engine.models.load import load_text
    from engine.models.resolve import resolve_text

    texts = list(dict.fromkeys(text for text in windows(folder) if len(text) > 100))
    if len(texts) < most // 10:
        raise BenchError(f"--texts {folder}: only {len(texts):,} windows of text there")
    np.random.default_rng(1).shuffle(texts)
    return load_text(resolve_text()).embed_texts(texts[:most])


def _records(vectors: Vector, first: int) -> list[Record]:
    now = datetime.now(UTC)
    return [
        Record(
            id=f"{number:032x}"[::-1],
            source=f"/files/{number // FILE % 10}/{number // FILE}.txt",
            kind="text",
            page=None,
            position=number % FILE,
            start=number,
            end=number + 1,
            text=f"{number} " + "word " * 40,
            embedding=vector,
            content_hash="0" * 64,
            model="made",
            indexed_at=now,
            mtime=now,
            size=1,
            media_type="text/plain",
        )
        for number, vector in enumerate(vectors, first)
    ]


def _publish(url: str, kind: str) -> dict[str, float]:
    """Publish in another process; seconds, and bytes of its PSS before and at most, and of the index."""
    command = [sys.executable, "-m", "benchmarks.speed.cases.nearest", url, kind]
    environment = {**CHILD_ENVIRONMENT, **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{url}: publish ended with {done.returncode}: {done.stderr[-600:]}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> int:
    """The process that publishes: URL and kind of index."""
    return_large_blocks()
    url, kind = sys.argv[1:]
    adapter: Any = adapters.connect(f"{url}?index={kind}", AdapterOptions(threads=1))
    adapter.count()
    before = peak = pss_bytes(os.getpid())
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(INTERVAL_S):
            peak = max(peak, pss_bytes(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    adapter.publish()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    size = sum(index.size_bytes or 0 for index in adapter.table.refresh().list_indices())
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak, "index": size}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
