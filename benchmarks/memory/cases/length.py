"""The same mixture of text, HTML, PDF and pictures 1, 10 and 100 times: is the peak the same?

The stand-ins embed in no time, so that the buffer fills as fast as the database allows. One copy must fill it
at least twice, or the smallest case never reaches the level of the others; the table tells.
"""

from __future__ import annotations

import argparse

from benchmarks.memory.bench import STAND_INS, Bench, Outcome

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
    ratio = f"peak of x {args.copies[-1]} / x {args.copies[0]}"
    outcome.goal(ratio, peaks[-1] / peaks[0], GOAL)
    return outcome
