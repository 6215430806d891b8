"""The same mixture of text, HTML, PDF and pictures 1, 10 and 100 times: is the peak the same?

The stand-ins embed in no time, so that the buffer fills as fast as the database allows. One copy must fill it
at least twice, or the smallest case never reaches the level of the others; the table tells. A long run has
many more samples than a short one, so that its highest is the higher for that alone: the levels (median, 95th
and 99.9th percentile) are those of the samples in which a parser lives, not of the work that follows.
"""

from __future__ import annotations

import argparse

from benchmarks.memory import figures
from benchmarks.memory.bench import STAND_INS, Bench, Outcome, Run

GOAL = 1.02


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--megabytes", type=float, default=48.0, metavar="MB", help="of one copy (default 48)")
    add("--copies", type=int, nargs="+", default=[1, 10, 100], metavar="N", help="default 1 10 100")
    add("--buffer", default="16MiB", help="the engine's --buffer (default 16MiB)")
    add("--workers", type=int, default=1, metavar="N", help="parsers (default 1)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    peaks = []
    for copies in args.copies:
        corpus = bench.corpus("mixture", f"mixture-{args.megabytes:g}x{copies}", args.megabytes, copies)
        options = (*STAND_INS, "--buffer", args.buffer, "--workers", str(args.workers))
        done = bench.run(f"x {copies}", [corpus], *options, count_files=True)
        outcome.add(f"x {copies}", done)
        peaks.append(done.peak)
        outcome.said.append(f"x {copies}, MB while parsing: {_levels(done)}")
    ratio = f"peak of x {args.copies[-1]} / x {args.copies[0]}"
    outcome.goal(ratio, peaks[-1] / peaks[0], GOAL)
    return outcome


def _levels(done: Run) -> str:
    series = done.measured.series
    parsing = [
        total for total, parsers in zip(series.total, series.stages["parsers"], strict=True) if parsers
    ]
    shares = {"median": 0.5, "95 %": 0.95, "99.9 %": 0.999, "highest": 1.0}
    parsing.sort()
    return ", ".join(
        f"{name} {figures.megabytes(parsing[int(share * (len(parsing) - 1))])}"
        for name, share in shares.items()
    )
