"""Does the indexer's memory stay flat, however many records and however long the server stalls?

    python -m benchmarks.elasticsearch.memory --url http://127.0.0.1:9200 --server-pid PID [--records 2000]

Runs the engine with a stand-in model of 384 dimensions over 1, 10 and 100 times `--records` generated
chunks into a real server, and once more over 10 times with the server stopped (SIGSTOP) for 60 s in mid-run.
`--buffer` is 16 MiB, which the smallest case nearly fills. The peaks are those of `summary.json`: PSS,
sampled every 0.5 to 5 s. Caveat: the smallest case is over in seconds, so the sampler sees it less often.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from elasticsearch import Elasticsearch

from benchmarks.command import summary_of
from engine.runtime.report.summary import environment

#: Chunks of one generated file.
FILE_CHUNKS = 200

#: Seconds for which the server is stopped.
STALL_S = 60

SENTENCE = "The keeper of light number {} wrote that the wind came from quarter {} and left by noon. "


def write_corpus(folder: Path, chunks: int) -> None:
    """Text that makes about so many chunks of 256 tokens."""
    for number in range(chunks // FILE_CHUNKS):
        text = "".join(SENTENCE.format(number, line) for line in range(12 * FILE_CHUNKS))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")


def run(url: str, chunks: int, stall_pid: int | None) -> dict[str, float]:
    """One run; peaks in MB, the number of records, seconds."""
    index = f"memory-{chunks}-{'stalled' if stall_pid else 'plain'}"
    with tempfile.TemporaryDirectory() as work, Elasticsearch(url) as client:
        corpus, run_dir = Path(work, "corpus"), Path(work, "run")
        corpus.mkdir()
        write_corpus(corpus, chunks)
        adapter = f"{url.replace('http://', 'elasticsearch://')}/{index}"
        command = [sys.executable, "-m", "engine.run", str(corpus), "--adapter", adapter, "--quiet"]
        command += ["--run-dir", str(run_dir), "--text-model", "stand-in:384", "--buffer", "16MiB"]
        process = subprocess.Popen(command)
        if stall_pid is not None:
            status = run_dir / "status.json"
            while not (status.exists() and json.loads(status.read_text())["chunks"]["indexed"] > chunks / 4):
                time.sleep(0.05)
            os.kill(stall_pid, signal.SIGSTOP)
            time.sleep(STALL_S)
            os.kill(stall_pid, signal.SIGCONT)
        if process.wait() != 0:
            raise RuntimeError(f"engine.run exited with {process.returncode}")
        summary = summary_of(run_dir)
        client.indices.delete(index=f"{index}-000001")
    peaks = summary.peak_pss_bytes
    return {
        "records": summary.totals.records,
        "indexer_mb": peaks["indexer"] / 1e6,
        "total_mb": peaks["total"] / 1e6,
        "in_flight_mb": summary.peak_in_flight_bytes / 1e6,
        "seconds": summary.seconds,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:9200")
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = [
        ("× 1", 1, None),
        ("× 10", 10, None),
        ("× 10, stalled 60 s", 10, args.server_pid),
        ("× 100", 100, None),
    ]
    table = []
    print(f"{'case':<20}{'records':>10}{'indexer MB':>12}{'all MB':>9}{'in flight MB':>14}{'s':>8}")
    for name, factor, pid in cases:
        row = run(args.url, args.records * factor, pid)
        table.append({"case": name, **row})
        print(
            f"{name:<20}{row['records']:>10}{row['indexer_mb']:>12.1f}{row['total_mb']:>9.1f}"
            f"{row['in_flight_mb']:>14.1f}{row['seconds']:>8.1f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"table": table, "environment": vars(environment())}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
