"""`python -m engine.plan INPUT...`: how long a corpus takes, in how much memory, and how large an index."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.cli.exits import command, run_and_exit
from engine.cli.options import from_arguments, run_parser
from engine.cli.parser import count
from engine.cli.terminal import harmless, say
from engine.config import Config
from engine.errors import EXIT_DONE, EXIT_FAILURES, UsageError
from engine.fleet import estimate as estimates
from engine.fleet.census import take_census
from engine.fleet.trial import try_out
from engine.sources import check_inputs

#: Options of `engine.run` that are about one task, or one run, and say nothing to a plan.
NOT_HERE = ("shard", "fleet", "limit", "dry_run", "prune")


@command("plan")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 3 where some of the corpus could not be listed."""
    args = _arguments(argv)
    return plan(from_arguments(args), args)


def plan(config: Config, args: argparse.Namespace) -> int:
    """List, estimate, print. Raises `EngineError` and `OSError`."""
    check_inputs(config.corpus.inputs, config.corpus.files_from)
    census = take_census(config)
    guess = None
    if args.calibrate_seconds and census.size:
        if not args.quiet:
            text = f"the engine runs over a sample, {args.calibrate_seconds:g} s from its first batch on"
            say("plan", text)
        with tempfile.TemporaryDirectory(prefix="engine-plan-") as folder:
            guess = estimates.estimate(census, try_out(config, census, args.calibrate_seconds, Path(folder)))
    if args.json:
        told = guess.as_dict(args.shards) if guess else {}
        print(json.dumps({"files": census.files, "bytes": census.size, "shards": args.shards, **told}))
    else:
        for line in estimates.lines(census, guess, args.shards):
            print(harmless(line))
    if census.unreadable:
        say("plan", f"{census.unreadable:,} files or folders could not be listed, and are not counted")
    return EXIT_FAILURES if census.unreadable else EXIT_DONE


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = run_parser(
        "plan",
        "Estimate tokens, time, memory and index of a corpus, from a listing and a run over a sample."
        " Takes the options of engine.run, which that run has.",
        {
            "docs/": "how long it takes here, how much memory, and how large the index is",
            "/data --shards 64": "the same for each of 64 tasks",
            "/data --calibrate-seconds 0": "only list: files and bytes",
        },
        not_here=NOT_HERE,
    )
    add = parser.add_argument
    add("--shards", type=count(1), default=1, metavar="N",
        help="number of tasks: about 32 for each that runs at once (default 1)")  # fmt: skip
    add("--calibrate-seconds", type=count(0), default=60, metavar="S",
        help="longest trial run over a sample; 0: only list (default 60)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_intermixed_args(argv)
    defaults = parser.parse_args(["."])
    for name in NOT_HERE:
        if getattr(args, name) != getattr(defaults, name):
            raise UsageError(f"--{name.replace('_', '-')}: it is for engine.run; a plan is of all files")
    return args


if __name__ == "__main__":
    run_and_exit(main)
