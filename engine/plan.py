"""`python -m engine.plan INPUT... --shards N`: list a corpus once, estimate it, cut it into equal shares."""

from __future__ import annotations

import argparse
import fcntl
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from engine.cli.options import from_arguments, list_name, run_parser
from engine.cli.parser import count
from engine.cli.terminal import harmless
from engine.config import Config
from engine.errors import EngineError, UsageError
from engine.fleet import estimate as estimates
from engine.fleet.census import BY_BYTES, Census, take_census, weighed
from engine.fleet.identity import IDENTITY
from engine.fleet.listing import list_corpus
from engine.fleet.manifest import Header, read_header
from engine.fleet.shards import Survey, cut
from engine.fleet.table import Table, read_table, table_path
from engine.fleet.trial import try_out
from engine.stages.discover import check_inputs

#: The manifest's name in a run directory.
MANIFEST = "manifest.jsonl.gz"

Say: TypeAlias = Callable[[str], None]

#: Seconds of a task's work in a lease, at least: taking and ending one takes operations on a shared disk.
LEAST_LEASE_S = 5.0

#: Options of `engine.run` that are about one task, or one run, and say nothing to a plan.
NOT_HERE = ("shard", "fleet", "manifest", "lease", "limit", "dry_run", "prune")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 where the engine failed, 2 usage, 3 where some of the corpus
    could not be listed, 75 interrupted: the same command goes on."""
    try:
        args = _arguments(argv)
        config = from_arguments(args)
        manifest = Path(args.to).absolute() if args.to else config.run_dir / MANIFEST
        return plan(config, manifest, args)
    except UsageError as error:
        print(f"engine.plan: {harmless(str(error))}", file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"engine.plan: {harmless(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"engine.plan: {harmless(str(error))}; the same command goes on from here", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("engine.plan: interrupted; the same command goes on from here", file=sys.stderr)
        return 75


def plan(config: Config, manifest: Path, args: argparse.Namespace) -> int:
    """List, estimate, cut, print. Raises `EngineError` and `OSError`."""
    say = _silent if args.quiet else _say
    check_inputs(config.corpus.inputs, config.corpus.files_from)
    corpus = config.corpus
    header = Header(
        corpus.inputs, list_name(corpus.files_from), corpus.include, corpus.exclude, corpus.hidden
    )
    try:
        manifest.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{manifest.parent}: {reason}; name a folder that can be written") from None
    with _alone(manifest):
        begun = _begun(manifest, header, args.shards)
        if begun and args.relist:
            raise UsageError(f"--relist: the fleet of {manifest.parent} has begun; name another --run-dir")
        complete = True
        if not manifest.exists() or args.relist:
            # The cuts are of the old listing: where this is killed, no task may take them for the new one's.
            table_path(manifest).unlink(missing_ok=True)
            complete = list_corpus(manifest, header, say)
        else:
            say(f"listed before, in {manifest}; --relist lists the corpus anew")
        census = take_census(manifest)
        table = None if begun else _cut(config, manifest, census, args, say)
    told = read_table(manifest) if table is None else {"estimate": table.estimate}
    if args.json:
        print(json.dumps({"manifest": str(manifest), "shards": args.shards, **told["estimate"]}))
    else:
        for line in told["estimate"]["lines"]:
            print(harmless(line))
        print(f"manifest   {harmless(str(manifest))}")
    if not complete:
        print(
            "engine.plan: some folders could not be listed; each is in the manifest, and the task that meets"
            " it tells of it as failed",
            file=sys.stderr,
        )
    return 0 if complete else 3


def _cut(config: Config, manifest: Path, census: Census, args: argparse.Namespace, say: Say) -> Table:
    """Estimate and cut, and write the table."""
    guess, weights = None, BY_BYTES
    if args.calibrate_seconds and census.size:
        say(f"calibrating: the engine runs over a sample, for {args.calibrate_seconds:g} s at most")
        with tempfile.TemporaryDirectory(prefix="engine-plan-") as folder:
            trial = try_out(config, census, args.calibrate_seconds, Path(folder))
        guess = estimates.estimate(census, trial)
        weights = guess.weights()
    survey = Survey(args.shards)
    for block in weighed(manifest, weights):
        survey.add(block)
    least = LEAST_LEASE_S if weights.unit == "seconds" else 0.0
    heavy, shards, leases = cut(weighed(manifest, weights), survey, least)
    told = guess.as_dict(args.shards) if guess else {}
    told["files"], told["bytes"] = census.files, census.size
    told["lines"] = estimates.lines(census, guess, shards, leases, weights.unit)
    table = Table(manifest, census.digest, args.shards, weights.unit, heavy, shards, leases, told)
    table.save()
    return table


def _begun(manifest: Path, header: Header, shards: int) -> bool:
    """Whether tasks have begun on the plan that is there. Raises `UsageError` where this is another one."""
    if not manifest.exists():
        return False
    there = read_header(manifest)
    if there != header:
        raise UsageError(
            f"{manifest}: it is of other inputs or options ({', '.join(there.inputs) or there.files_from});"
            " name another --run-dir, or another file with --to"
        )
    if not (manifest.parent / IDENTITY).exists() or not table_path(manifest).exists():
        return False
    tasks = read_table(manifest)["tasks"]
    if tasks != shards:
        raise UsageError(
            f"--shards {shards}: the fleet of {manifest.parent} has begun with {tasks}; each file would"
            " change its shard: name another --run-dir"
        )
    return True


@contextmanager
def _alone(manifest: Path) -> Iterator[None]:
    """Raises `UsageError` where another plan of the same manifest is at work."""
    with open(manifest.with_name(manifest.name + ".lock"), "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{manifest}: another engine.plan is at work on it; wait for it") from None
        yield


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = run_parser(
        "plan",
        "List a corpus once, estimate tokens, time, memory and index, and cut it into shares of equal work."
        " Takes the options of engine.run, which the calibration runs with.",
    )
    add = parser.add_argument
    add("--shards", type=count(1), required=True, metavar="N", help="how many tasks there are")
    add("--to", metavar="FILE", help=f"the manifest (default {MANIFEST} in the run directory)")
    add("--calibrate-seconds", type=count(0), default=60, metavar="S",
        help="run over a sample for so long; 0: estimate nothing, balance by bytes (default 60)")  # fmt: skip
    add("--relist", action="store_true", help="list the corpus again, though there is a manifest of it")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_intermixed_args(argv)
    defaults = parser.parse_args(["--shards", "1"])
    for name in NOT_HERE:
        if getattr(args, name) != getattr(defaults, name):
            raise UsageError(f"--{name.replace('_', '-')}: it is for engine.run; a plan is of all tasks")
    return args


def _say(text: str) -> None:
    print(harmless(text), file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """`--quiet`."""


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.default_int_handler)
    code = main()
    sys.stdout.flush()
    sys.exit(code)
