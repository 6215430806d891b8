"""`--max-ram` at four values from the smallest up, over three corpora: is any sample above it?

The smallest is what the engine itself names when it is given far too little. The models are the real ones
unless --text-model says otherwise; a run must also finish, or its line says how it ended.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.memory.bench import EXAMPLES, Bench, Outcome, byte_size

#: Values as multiples of the smallest.
FACTORS = (1.0, 1.25, 2.0, 4.0)

#: What is far too little for any run.
TOO_LITTLE = "1MiB"

#: How the engine names what would do.
_NAMED = re.compile(r"needs --max-ram (\d+(?:\.\d+)?\s*(?:[KMGT]i?B?)?)\b", re.IGNORECASE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--limits", nargs="+", metavar="BYTES", help="values of --max-ram instead of the smallest and up")
    add("--megabytes", type=float, default=24.0, metavar="MB", help="of each made corpus (default 24)")
    add("--corpora", nargs="+", choices=("examples", "text", "mixture"), metavar="NAME",
        default=["examples", "text", "mixture"], help="default examples text mixture")  # fmt: skip
    add("--text-model", metavar="NAME", help="the engine's (default: its own default)")
    add("--image-model", metavar="NAME", help="the engine's (default: its own default)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    models = [
        word
        for option, value in (("--text-model", args.text_model), ("--image-model", args.image_model))
        if value
        for word in (option, value)
    ]
    highest = 0.0
    for name in args.corpora:
        corpus = _corpus(name, args.megabytes, bench)
        for limit in _limits(args.limits, bench, name, corpus, models):
            title = f"{name} {limit / 2**20:.0f}MiB"
            done = bench.run(title, [corpus], *models, "--max-ram", str(limit), accept=(0, 1, 2, 3))
            share = done.peak / limit
            outcome.add(
                title, done, share=f"{share:.3f}", told=done.told[-160:] if done.measured.exit_code else ""
            )
            highest = max(highest, share)
    outcome.goal("highest sampled total / limit", highest, 1.0)
    return outcome


def _corpus(name: str, megabytes: float, bench: Bench) -> Path:
    if name == "examples":
        return EXAMPLES
    if name == "text":
        return bench.corpus("text", f"text-{megabytes:g}.txt", megabytes * 1e6)
    return bench.corpus("mixture", f"mixture-{megabytes:g}x1", megabytes, 1)


def _limits(
    given: Sequence[str] | None, bench: Bench, name: str, corpus: Path, models: Sequence[str]
) -> list[int]:
    if given:
        return [byte_size(each) for each in given]
    asked = bench.run(f"{name} too little", [corpus], *models, "--max-ram", TOO_LITTLE, accept=(1, 2))
    found = _NAMED.search(asked.told)
    if found is None:
        raise BenchError(f"the engine named no smallest --max-ram: {asked.told[-400:]}; give --limits")
    return [int(factor * byte_size(found[1])) for factor in FACTORS]
