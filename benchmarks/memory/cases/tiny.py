"""A million files of one sentence: does any process grow with their number?

The files lie on tmpfs and the stand-ins embed in no time, so that it takes minutes. The slope is that of a
least-squares line through the samples of the second half, over the number of files done.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.memory import figures
from benchmarks.memory.bench import STAND_INS, Bench, Outcome, make, size

#: Files over which a slope is told.
PER = 100_000

#: A slope is none within so many standard errors.
NOISE = 3.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--files", type=size, default=1e6, metavar="N", help="default 1M")
    add(
        "--tmpfs", type=Path, default=Path("/dev/shm"), metavar="DIR", help="for the files (default /dev/shm)"
    )
    add("--buffer", default="16MiB", help="the engine's --buffer (default 16MiB)")
    add("--workers", type=int, default=1, metavar="N", help="parsers (default 1)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    if not args.tmpfs.is_dir():
        raise BenchError(f"--tmpfs {args.tmpfs}: no such folder")
    outcome = Outcome()
    folder = args.tmpfs / f"memory-bench-tiny-{int(args.files)}"
    try:
        make("tiny", folder, args.files)
        options = (*STAND_INS, "--buffer", args.buffer, "--workers", str(args.workers))
        name = f"{int(args.files):,} files"
        done = bench.run(name, [folder], *options, count_files=True)
        outcome.add(name, done)
        ledger = sum(path.stat().st_size for path in done.folder.glob("ledger.sqlite*"))
        series = done.measured.series
        for stage, values in {"total": series.total, **series.stages}.items():
            x, y = figures.second_half(series, values)
            steepness, error = figures.slope(x, y)
            flat = "0 within noise" if abs(steepness) <= NOISE * error else "NOT within noise"
            outcome.said.append(
                f"slope of {stage}: {PER * steepness / 1e6:+.3f} MB per {PER:,} files,"
                f" standard error {PER * error / 1e6:.3f} over {len(x)} samples: {flat}"
            )
        outcome.said.append(f"ledger: {ledger / args.files:,.0f} bytes a file")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome
