"""Photographs to LanceDB by the engine: how near to the bound, and how fast beside open_clip's plain loop?

A CLIP ViT-B/32 with random weights, which are as fast as any. A round is the whole of `engine.run`, with
its export and calibration in the cache, from its first batch to the last acknowledgement (`summary.json`);
and a process that loads the model by open_clip and goes over the same files by its preprocessing and
`encode_image`, 32 at a time, timed with the model loaded. JPEGs of 3.1 megapixels, pieces of the photographs
of a Debian package.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.speed import photographs, shapes
from benchmarks.speed.bench import Outcome, spread
from benchmarks.speed.runs import Engine, Run, answer, folder_of, timed

GOAL_BOUND = 0.95


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.set_defaults(rounds=4)
    add = parser.add_argument
    add("--photographs", type=int, default=400, metavar="N", help="(default 400)")
    add("--shape", choices=list(shapes.IMAGE), default="ViT-B-32", help="of the model (default ViT-B-32)")
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")
    add("--generated", action="store_true", help="make pictures of noise instead; needs no package")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    model = shapes.image_model(work, args.shape)
    corpus = folder_of(work, "photographs")
    packages = None if args.generated else args.packages or work / "packages"
    photographs.write(corpus, args.photographs, packages)
    engine = Engine(work)
    # The model for texts has nothing to do, and need not be exported and measured.
    options = ["--image-model", str(model), "--text-model", "stand-in:8"]
    plain = [sys.executable, "-m", "benchmarks.speed.reference", "open_clip", str(model), str(corpus)]
    engine.run(corpus, *options)  # which exports and measures the model
    ours: list[Run] = []
    theirs: list[tuple[float, float, float]] = []
    for _ in range(args.rounds):
        ours.append(engine.run(corpus, *options))
        wall, printed = timed(plain)
        told = answer(printed)
        theirs.append((told["items"] / told["seconds"], wall, told["load_s"]))
    rates = [one.rate for one in ours]
    starts = [one.start_s for one in ours]
    _tell(outcome, args.shape, "engine, files to LanceDB", rates, [one.wall_s for one in ours], starts)
    _tell(outcome, args.shape, "open_clip, plain loop", *map(list, zip(*theirs, strict=True)))
    bound = [one.bound for one in ours]
    outcome.goal("end to end ÷ the bound", statistics.median(bound), GOAL_BOUND, ".3f")
    outcome.said.append(f"  of {spread(bound, '.3f')}")
    gains = [mine / one[0] for mine, one in zip(rates, theirs, strict=True)]
    outcome.said.append(f"images/s ÷ the plain loop's: {spread(gains, '.2f')}")
    outcome.said.append(ours[-1].speed.advice)
    return outcome


def _tell(
    outcome: Outcome, model: str, by: str, rates: list[float], walls: list[float], starts: list[float]
) -> None:
    outcome.rows.append({
        "model": model,
        "by": by,
        "images/s, warm": spread(rates, ".1f"),
        "whole process, s": spread(walls, ".1f"),
        "of it start-up": spread(starts, ".1f"),
    })  # fmt: skip
