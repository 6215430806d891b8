"""How long does the last job of a fleet take, and in how much memory?

    python -m benchmarks.fleet.finish [--records 1000000] [--tasks 4] [--dimensions 384] [--json FILE]

Tasks of a fleet (stand-in model, one after another) fill one LanceDB index from texts of short chunks, then
`engine.merge` gathers what they wrote, publishes, verifies every record, and sums up.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.memory import figures
from benchmarks.memory.sampler import measure

#: Chunks in one file, tokens in each, special ones included.
CHUNKS_PER_FILE, CHUNK_TOKENS = 2_000, 16

#: Seconds between two samples of the memory.
INTERVAL_S = 0.5

#: Consonants and vowels of made-up words.
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet.finish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--records", type=int, default=1_000_000, metavar="N", help="about so many (default 1,000,000)")
    add("--tasks", type=int, default=4, metavar="N", help="default 4")
    add("--dimensions", type=int, default=384, metavar="D", help="of the vectors (default 384)")
    add("--work", type=Path, metavar="DIR", help="corpus, runs and index; kept (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            work = (args.work or Path(temporary)).absolute()
            row = finish(work, args.records, args.tasks, args.dimensions)
    except BenchError as error:
        print(f"finish: {error}", file=sys.stderr)
        return 1
    print(figures.table([row]))
    if args.json:
        options = {name: str(value) for name, value in vars(args).items()}
        figures.write_json(args.json, {"options": options, "table": [row]})
    return 0


def finish(work: Path, records: int, tasks: int, dimensions: int) -> dict[str, object]:
    """Fill, then measure the last job; the row of the table. Raises `BenchError` where a command fails."""
    corpus, run_dir, url = work / "corpus", work / "run", f"lancedb://{work}/index"
    write_corpus(corpus, records)
    for task in range(tasks):
        command = [
            sys.executable, "-m", "engine.run", str(corpus), "--adapter", url, "--run-dir", str(run_dir),
            "--fleet", "--shard", f"{task}/{tasks}", "--text-model", f"stand-in:{dimensions}",
            "--chunk-size", str(CHUNK_TOKENS), "--no-dedupe", "--quiet",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"task {task} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    command = [sys.executable, "-m", "engine.merge", "--run-dir", str(run_dir), "--adapter", url]
    said = work / "merge.txt"
    measured = measure(command, lambda _: "merge", INTERVAL_S, stderr=said)
    if measured.exit_code:
        raise BenchError(f"engine.merge ended with {measured.exit_code}: {said.read_text()[-300:]}")
    summary = json.loads((run_dir / "summary.json").read_text())
    written = summary["totals"]["records"]
    return {
        "records": written,
        "tasks": tasks,
        "seconds": round(measured.seconds, 1),
        **{f"{name} s": seconds for name, seconds in summary["merge_steps_s"].items()},
        "records/s": round(written / measured.seconds),
        "peak PSS MB": round(measured.peaks["total"] / 1e6, 1),
    }


def write_corpus(folder: Path, records: int) -> None:
    """Texts of made-up words; the stand-in counts a token for each word and mark."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)
    words = [
        "".join(draw.choice(CONSONANTS) + draw.choice(VOWELS) for _ in range(draw.randint(1, 4)))
        for _ in range(5_000)
    ]
    for number in range(-(-records // CHUNKS_PER_FILE)):
        tokens = min(CHUNKS_PER_FILE, records - number * CHUNKS_PER_FILE) * (CHUNK_TOKENS - 2)
        (folder / f"{number:06}.txt").write_text(" ".join(draw.choices(words, k=tokens)))


if __name__ == "__main__":
    sys.exit(main())
