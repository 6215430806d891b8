"""How fast is a model on a GPU alone, how near does a whole run come, and how many cores feed it?

For models of well-known shapes with random weights: items a second of the loaded model (tokens of full
inputs, pictures), as a share of what the device reaches at products of matrices in the same numbers; then in
each round the whole of `engine.run` into LanceDB, end to end against the model alone; and the cores that the
parsers would need to feed the model at its full rate, by their processor time for an item. `--device cpu
--tiny` tries the case where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed import photographs, prose, shapes
from benchmarks.speed.bench import Outcome, spread
from benchmarks.speed.runs import Engine, Run, answer, folder_of, timed
from engine.records import Kind
from engine.runtime.report.summary import Summary

#: End to end ÷ the model alone, with as many cores as feed it.
GOAL = 0.95

#: Seconds of multiplying matrices.
PEAK_S = 2.0

#: Files of text; many, so that all parsers have one.
FILES = 64

MODELS: tuple[tuple[Kind, str], ...] = (
    ("text", "MiniLM-L6"),
    ("text", "bge-large"),
    ("image", "ViT-B-32"),
    ("image", "ViT-L-14"),
)
TINY: tuple[tuple[Kind, str], ...] = (("text", "tiny"), ("image", "tiny"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.set_defaults(rounds=3)
    add = parser.add_argument
    add("--device", default="cuda", help="as engine.run takes it (default cuda)")
    add("--dtype", default="auto", help="as engine.run takes it (default auto)")
    add("--tiny", action="store_true", help="tiny models, to try the case")
    add("--shapes", nargs="+", metavar="NAME", help="of these alone")
    add("--megabytes", type=float, default=100.0, metavar="MB", help="of text (default 100)")
    add("--photographs", type=int, default=4000, metavar="N", help="(default 4000)")
    add("--packages", type=Path, metavar="DIR",
        help="unpacked Debian packages, of which photographs are taken (default: made of noise)")  # fmt: skip
    add("--workers", type=int, metavar="N", help="parsers (default: as engine.run chooses)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    engine = Engine(work)
    chosen = [each for each in (TINY if args.tiny else MODELS) if not args.shapes or each[1] in args.shapes]
    corpora = {kind: _corpus(kind, args, work) for kind in {kind for kind, _ in chosen}}
    for kind, shape in chosen:
        make = shapes.text_model if kind == "text" else shapes.image_model
        model = make(work, shape)
        command = [sys.executable, "-m", "benchmarks.speed.forward", str(model), kind]
        _, printed = timed([*command, args.device, args.dtype, str(PEAK_S)])
        options = [f"--{kind}-model", str(model), "--device", args.device, "--dtype", args.dtype]
        options += ["--backend", "torch"] + (["--workers", str(args.workers)] if args.workers else [])
        engine.run(corpora[kind], *options)  # which times the model, and fills the caches
        runs = [engine.run(corpora[kind], *options) for _ in range(args.rounds)]
        _tell(outcome, kind, shape, answer(printed), runs)
    return outcome


def _corpus(kind: Kind, args: argparse.Namespace, work: Path) -> Path:
    folder = folder_of(work, f"{kind}-corpus")
    if kind == "image":
        photographs.write(folder, args.photographs, args.packages)
        return folder
    for number in range(FILES):
        prose.write_long(folder / f"{number}.txt", round(1e6 * args.megabytes / FILES), seed=number)
    return folder


def _tell(outcome: Outcome, kind: Kind, shape: str, alone: dict[str, Any], runs: list[Run]) -> None:
    rate = float(alone["rate"])
    ends = [one.rate for one in runs]
    feeding = [rate * _parsing_s(kind, one.summary) for one in runs]
    bounds = [one.bound for one in runs]
    outcome.rows.append({
        "model": shape,
        "device": f"{alone['device']}, {str(alone['dtype']).removeprefix('torch.')}",
        "unit": "tokens/s" if kind == "text" else "images/s",
        "alone": f"{rate:,.0f}",
        "of peak": f"{rate * alone['flop'] / alone['peak']:.0%}",
        "end to end": spread(ends),
        "÷ its own bound": spread(bounds, ".3f"),
        "parsing cores": spread(feeding, ".1f"),
    })  # fmt: skip
    ratios = [end / rate for end in ends]
    outcome.goal(f"{kind}, {shape}: end to end ÷ the model alone", statistics.median(ratios), GOAL, ".3f")
    outcome.said.append(f"  of {spread(ratios, '.3f')}; {runs[-1].speed.advice}")


def _parsing_s(kind: Kind, summary: Summary) -> float:
    """Core-seconds of parsing for a token or picture."""
    items = summary.tokens if kind == "text" else summary.chunks.image
    return summary.stage("parse").call("parse").cpu_s / items
