"""What does each kind of vector index find, and how large is it?

    python -m benchmarks.elasticsearch.recall FOLDER --url http://127.0.0.1:9200 [--kinds int8_hnsw,hnsw,…]

Takes real text: every `.txt`, `.md`, `.rst`, `.html` and source file below FOLDER, cut into overlapping
windows of about 60 words and embedded by MiniLM, up to `--records`. One vector in fifty is kept out as a
query. For each kind an index of the engine's own mapping is loaded, merged to one segment, and asked for the
10 nearest of each query as `engine.search` asks; recall@10 is the share of the exact 10 nearest (by numpy, in
float32) among them. Size is the store's after the merge, vectors not in `_source`. Caveat: the servers of
`scripts/elasticsearch` compare vectors in plain Java, so nothing is said of speed; windows overlap, which
makes neighbours nearer than in a corpus of distinct texts.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from elasticsearch import ApiError, Elasticsearch

import adapters
from engine.errors import EngineError
from engine.models.load import load_text
from engine.models.resolve import resolve_text
from engine.records import ChunkerIdentity, IndexSchema, Record, Vector, record_id, text_hash
from engine.runtime.report.summary import environment

#: Words of one window, and words from one window's start to the next one's.
WINDOW_WORDS, STEP_WORDS = 60, 30

#: One vector in so many is a query and not in the index.
QUERY_EVERY = 50

#: Neighbours that are asked for.
K = 10

SUFFIXES = {".txt", ".md", ".rst", ".html", ".htm", ".py", ".c", ".js"}


def windows(folder: Path) -> Iterator[str]:
    """Windows of words of every text file below the folder."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        text = re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8", errors="replace"))
        words = text.split()
        for start in range(0, max(1, len(words) - WINDOW_WORDS), STEP_WORDS):
            yield " ".join(words[start : start + WINDOW_WORDS])


def exact_neighbours(base: Vector, queries: Vector) -> list[set[int]]:
    """The K nearest of each query among unit vectors, float32 [n, d], by comparing with all."""
    found = []
    for query in queries:
        scores = base @ query
        found.append(set(np.argpartition(-scores, K)[:K].tolist()))
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:9200")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--kinds", default="hnsw,int8_hnsw,int4_hnsw,bbq_hnsw,bbq_disk")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    texts = list(dict.fromkeys(text for text in windows(args.folder) if len(text) > 100))[: args.records]
    spec = resolve_text()
    model = load_text(spec)
    vectors = model.embed_texts(texts)
    queries = vectors[::QUERY_EVERY]
    kept = [number for number in range(len(texts)) if number % QUERY_EVERY]
    base = vectors[kept]
    expected = exact_neighbours(base, queries)
    now = datetime.now(UTC)
    records = [
        Record(
            id=record_id("recall", None, number, None, "", "", spec.digest),
            source="/recall",
            kind="text",
            page=None,
            position=number,
            start=number,
            end=number + 1,
            text=texts[number],
            embedding=vectors[number],
            content_hash=text_hash(texts[number]),
            model=spec.name,
            indexed_at=now,
            mtime=now,
            size=0,
            media_type="text/plain",
        )
        for number in kept
    ]
    place = {record.id: row for row, record in enumerate(records)}
    print(f"{len(records)} vectors of {spec.dimensions} dimensions, {len(queries)} queries")
    print(f"{'kind':<12}{'recall@10':>11}{'size MB':>10}")
    table = []
    with Elasticsearch(args.url) as client:
        for kind in args.kinds.split(","):
            name = f"recall-{kind.replace('_', '-')}"
            client.indices.delete(index=f"{name}-000001", ignore_unavailable=True)
            url = f"{args.url.replace('http://', 'elasticsearch://')}/{name}"
            adapter = adapters.connect(f"{url}?index={kind}&store_vectors=false")
            try:
                adapter.ensure_schema(IndexSchema(spec.info, None, ChunkerIdentity.from_key("recall")))
                adapter.prepare()
                for start in range(0, len(records), 2000):
                    refused = [r for r in adapter.write(records[start : start + 2000], False) if r]
                    if refused:
                        raise EngineError(refused[0])
                adapter.publish()
                client.options(request_timeout=600).indices.forcemerge(index=name, max_num_segments=1)
                found = [adapter.search("text", query, K) for query in queries]
            except (EngineError, ApiError) as error:
                print(f"{kind:<12}{str(error)[:90]:>24}")
                table.append({"kind": kind, "error": str(error)[:200]})
            else:
                hits = [{place[hit.id] for hit in each} for each in found]
                recall = sum(len(a & b) for a, b in zip(hits, expected, strict=True)) / (K * len(queries))
                size = client.indices.stats(index=name)["_all"]["primaries"]["store"]["size_in_bytes"] / 1e6
                print(f"{kind:<12}{recall:>11.4f}{size:>10.1f}")
                table.append({"kind": kind, "recall": recall, "size_mb": size})
            finally:
                adapter.close()
                client.indices.delete(index=f"{name}-000001", ignore_unavailable=True)
    if args.json:
        content = {"records": len(records), "table": table, "environment": vars(environment())}
        args.json.write_text(json.dumps(content, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
