"""How far is what `engine.plan` foretells from what a run then takes?

Plans a corpus for one task and runs it, with the same options, into a LanceDB of its own, and compares
tokens, pictures, records, seconds, bytes of the index, and the memory planned. Each run is a new one.
Everything after `--` goes to both commands.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import BenchError, summary_of
from benchmarks.memory import figures
from engine.runtime.report.summary import Memory, PlannedMemory, made_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the comparison."""
    add = parser.add_argument
    add("--corpus", type=Path, action="append", required=True, metavar="DIR", help="repeatable")
    add("--calibrate-seconds", type=int, default=60, help="as of engine.plan (default 60)")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("options", nargs="*", metavar="-- OPTION", help="for engine.plan and engine.run, after --")


def run(args: argparse.Namespace) -> None:
    """Plan and run each corpus, and print the table. Raises `BenchError`."""
    rows: list[dict[str, object]] = []
    for corpus in args.corpus:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            rows += compare(corpus, args.calibrate_seconds, args.options, Path(folder))
    print(figures.table(rows))
    if args.json:
        figures.write_json(args.json, {"calibrate_seconds": args.calibrate_seconds, "rows": rows})


def compare(corpus: Path, seconds: int, options: Sequence[str], work: Path) -> list[dict[str, object]]:
    """A row for each figure: foretold, real, and the difference in percent of the real one."""
    index = work / "index"
    planned = ["engine.plan", str(corpus), "--adapter", f"lancedb://{index}", "--json"]
    told = json.loads(_call([*planned, "--calibrate-seconds", str(seconds), *options], (0, 3)))
    real = ["engine.run", str(corpus), "--run-dir", str(work / "run"), "--adapter", f"lancedb://{index}"]
    _call([*real, *options], (0, 3))
    summary = summary_of(work / "run")
    foretold = made_of(Memory, told["memory"]).plan
    size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    pairs = {
        "tokens": (told["tokens"], summary.tokens),
        "pictures": (told["pictures"], summary.chunks.image),
        "records": (told["records"], summary.totals.records),
        "seconds": (told["task_s"], summary.seconds),
        "seconds of embedding": (told["work_s"], summary.speed_of_light.window_s),
        "index, bytes": (told["index_bytes"], size),
        "memory planned, bytes": (_planned(foretold), _planned(summary.memory.plan)),
    }
    return [
        {
            "corpus": corpus.name,
            "figure": name,
            "plan": f"{plan:,.0f}",
            "run": f"{actual:,.0f}",
            "difference, %": f"{100 * (plan / actual - 1):+.1f}" if actual else "",
        }
        for name, (plan, actual) in pairs.items()
    ]


def _planned(plan: PlannedMemory | None) -> int:
    return sum(plan.parts.values()) if plan else 0


def _call(command: Sequence[str], good: Sequence[int]) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    if done.returncode not in good:
        raise BenchError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout
