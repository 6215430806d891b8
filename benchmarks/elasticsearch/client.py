"""How much CPU does the client spend on 10,000 records, ours and the official helpers?

    python -m benchmarks.elasticsearch.client [--url http://127.0.0.1:9200] [--records 10000] [--rounds 5]

Each contender sends the same records (384 dimensions, some 900 characters of text) in a process of its own
and counts its own user and system CPU around the sending, imports and making the records left out. Rounds are
interleaved; medians are printed, with the ratio to `helpers.bulk`. Without `--url` they send to a server that
answers and stores nothing, which leaves the client alone; with it into an index of a real server, deleted
afterwards. The server's CPU is read from /proc where it runs on this machine (`--server-pid`).
Caveat: the helpers get documents as Python lists, as their examples do, and the conversion is counted;
`helpers.bulk, orjson` has the client's orjson serialiser, which takes numpy arrays as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from elasticsearch import Elasticsearch, helpers
from elasticsearch.serializer import OrjsonSerializer

from adapters.elasticsearch import INDEX_KINDS, documents, mapping
from adapters.elasticsearch.bulk import BulkSender
from adapters.elasticsearch.location import Location
from engine.records import ChunkerIdentity, IndexSchema, ModelInfo, Record
from engine.runtime.report.summary import environment

DIMENSIONS = 384

#: Records in one call, as the index stage gathers them.
CALL_RECORDS = 2000

TEXT = "The tide comes in twice a day, and nobody in the harbour has ever asked it to hurry. " * 11


def make_records(count: int) -> list[Record]:
    """Text records as a run makes them: runs of one file's segments, unit vectors."""
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Record(
            id=uuid.UUID(int=number, version=4).hex,
            source=f"/corpus/file {number // 100}.txt",
            kind="text",
            page=None,
            position=number % 100,
            start=number * 900,
            end=number * 900 + len(TEXT),
            text=TEXT,
            embedding=vectors[number],
            content_hash=f"{number:064x}",
            model="sentence-transformers/all-MiniLM-L6-v2",
            indexed_at=now,
            mtime=now,
            size=90_000,
            media_type="text/plain",
        )
        for number in range(count)
    ]


def actions(records: list[Record], index: str, as_list: bool) -> Iterator[dict[str, object]]:
    """The records as the helpers' actions."""
    for record in records:
        yield {
            "_op_type": "create",
            "_index": index,
            "_id": record.id,
            "id": record.id,
            "source": record.source,
            "kind": record.kind,
            "position": record.position,
            "start": record.start,
            "end": record.end,
            "text": record.text,
            "text_embedding": record.embedding.tolist() if as_list else record.embedding,
            "content_hash": record.content_hash,
            "text_model": record.model,
            "indexed_at": record.indexed_at.isoformat(),
            "mtime": record.mtime.isoformat(),
            "size": record.size,
            "media_type": record.media_type,
        }


def ours(url: str, index: str, records: list[Record], base64: bool) -> None:
    """The adapter's own path: lines, then the bounded sender."""
    location = Location.parse(url.replace("http://", "elasticsearch://") + f"/{index}")
    client = location.client()
    sender = BulkSender(client, location, lambda: None, 8 * 2**20, 2)
    for start in range(0, len(records), CALL_RECORDS):
        part = records[start : start + CALL_RECORDS]
        items = sender.send(documents.create_lines(part, base64), require_alias=False)
        if any(item.status != 201 for item in items):
            raise RuntimeError(f"refused: {next(item for item in items if item.status != 201)}")
    sender.close()
    client.close()


def bulk(url: str, index: str, records: list[Record]) -> None:
    """`helpers.bulk` as its documentation shows it."""
    with Elasticsearch(url) as client:
        helpers.bulk(client, actions(records, index, as_list=True))


def bulk_orjson(url: str, index: str, records: list[Record]) -> None:
    """`helpers.bulk` with the client's orjson serialiser."""
    with Elasticsearch(url, serializer=OrjsonSerializer()) as client:
        helpers.bulk(client, actions(records, index, as_list=False))


def parallel_bulk(url: str, index: str, records: list[Record]) -> None:
    """`helpers.parallel_bulk` with its four threads."""
    with Elasticsearch(url) as client:
        for _ in helpers.parallel_bulk(client, actions(records, index, as_list=True)):
            pass


CONTENDERS: dict[str, Callable[[str, str, list[Record]], None]] = {
    "helpers.bulk": bulk,
    "helpers.parallel_bulk": parallel_bulk,
    "helpers.bulk, orjson": bulk_orjson,
    "ours, floats": lambda url, index, records: ours(url, index, records, base64=False),
    "ours, base64": lambda url, index, records: ours(url, index, records, base64=True),
}


def measure_one(name: str, url: str, index: str, count: int) -> None:
    """In a process of its own: print CPU and wall seconds of the sending."""
    records = make_records(count)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    CONTENDERS[name](url, index, records)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(json.dumps({"cpu_s": cpu, "wall_s": time.monotonic() - started}))


def server_cpu(pid: int | None) -> float:
    """User and system seconds of a process on this machine so far."""
    if pid is None:
        return 0.0
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def create_index(url: str, index: str) -> None:
    """An index with the engine's own mapping, loaded as the engine loads: no refresh, no replicas."""
    model = ModelInfo("benchmark", "0", DIMENSIONS, normalized=True)
    schema = IndexSchema(model, None, ChunkerIdentity.from_key("benchmark"))
    with Elasticsearch(url) as client:
        client.indices.create(
            index=index,
            mappings=mapping.mappings(schema, INDEX_KINDS[0]),
            settings={"refresh_interval": "-1", "number_of_replicas": 0},
        )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--server-pid", type=int)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", action="append", default=[], choices=CONTENDERS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--index", default="bulk-benchmark", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure_one(args.one, args.url, args.index, args.records)
        return 0
    server = None
    url = args.url
    if url is None:
        command = [sys.executable, "-m", "benchmarks.elasticsearch.answering_server"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        port = server.stdout.readline().strip() if server.stdout else ""
        url = f"http://127.0.0.1:{port}"
    pid = args.server_pid or (server.pid if server else None)
    names = [name for name in CONTENDERS if name not in args.skip]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        for _ in range(args.rounds):
            for name in names:
                if args.url:
                    create_index(url, args.index)
                before = server_cpu(pid)
                command = [sys.executable, "-m", "benchmarks.elasticsearch.client", "--one", name]
                command += ["--url", url, "--records", str(args.records), "--index", args.index]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures = json.loads(done.stdout)
                found[name].append({**figures, "server_cpu_s": server_cpu(pid) - before})
                if args.url:
                    with Elasticsearch(url) as client:
                        client.indices.delete(index=args.index)
    finally:
        if server:
            server.terminate()
            server.wait()
    scale = 10_000 / args.records
    table = []
    for name in names:
        cpu = sorted(scale * each["cpu_s"] for each in found[name])
        wall = statistics.median(each["wall_s"] for each in found[name]) * scale
        share = statistics.median(each["server_cpu_s"] / each["wall_s"] for each in found[name])
        table.append({"what": name, "cpu_s": statistics.median(cpu), "least": cpu[0], "most": cpu[-1],
                      "wall_s": wall, "server_cpus": share})  # fmt: skip
    base = table[0]["cpu_s"]
    ratio = f"÷ {names[0]}"
    print(f"{'client':<24}{'CPU s / 10,000':>15}{'spread':>16}{ratio:>20}{'wall s':>9}{'server CPUs':>13}")
    for row in table:
        spread = f"{row['least']:.3f}–{row['most']:.3f}"
        print(
            f"{row['what']:<24}{row['cpu_s']:>15.3f}{spread:>16}{row['cpu_s'] / base:>20.3f}"
            f"{row['wall_s']:>9.2f}{row['server_cpus']:>13.2f}"
        )
    if args.json:
        args.json.write_text(json.dumps({"table": table, "environment": vars(environment())}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
