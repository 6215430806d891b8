"""Elasticsearch is stopped (SIGSTOP) in the middle of a run: does anything pile up meanwhile?

The connections stay open and nothing answers. It begins when a quarter of the records are acknowledged.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

from benchmarks.memory.bench import STAND_INS, Bench, Outcome, status_of
from benchmarks.memory.server import elasticsearch

GOAL = 1.01

#: Share of the records after which the server is stopped.
BEGIN = 0.25


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--megabytes", type=float, default=48.0, metavar="MB", help="of one copy (default 48)")
    add("--copies", type=int, default=4, metavar="N", help="of the mixture (default 4)")
    add("--stall", type=float, default=60.0, metavar="S", help="seconds (default 60)")
    add("--buffer", default="16MiB", help="the engine's --buffer (default 16MiB)")
    add("--workers", type=int, default=1, metavar="N", help="parsers (default 1)")
    add("--version", default="8.19.21", help="of Elasticsearch (default 8.19.21)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    corpus = bench.corpus("mixture", f"mixture-{args.megabytes:g}x{args.copies}", args.megabytes, args.copies)
    options = (*STAND_INS, "--buffer", args.buffer, "--workers", str(args.workers))
    with elasticsearch(args.version) as server:
        # The first run of a server is slower: it is not one of the two that are compared.
        plain = stalled = bench.run("warm-up", [corpus], *options, adapter=server.adapter("warm-up"))
        server.delete("warm-up-*")
        plain = bench.run("no stall", [corpus], *options, adapter=server.adapter("plain"))
        outcome.add("no stall", plain)
        server.delete("plain-*")
        begin = BEGIN * plain.summary.totals.records

        def stop(process: subprocess.Popen[bytes], run_dir: Path) -> None:
            while status_of(run_dir).get("chunks", {}).get("indexed", 0) < begin and process.poll() is None:
                time.sleep(0.1)
            server.stall(args.stall)

        name = f"stalled {args.stall:g} s"
        stalled = bench.run(name, [corpus], *options, adapter=server.adapter("stalled"), while_running=stop)
        outcome.add(name, stalled)
    outcome.goal("peak with the stall / without", stalled.peak / plain.peak, GOAL)
    for stage in ("supervisor", "parsers", "inference", "indexer"):
        ratio = stalled.measured.peaks[stage] / plain.measured.peaks[stage]
        outcome.said.append(f"  {stage}: {ratio:.3f}")
    return outcome
