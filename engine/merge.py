"""`python -m engine.merge --run-dir DIR --adapter URL`: the last job of a fleet, after all of its tasks."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import adapters
from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser, seconds
from engine.cli.terminal import harmless, say
from engine.errors import DatabaseUnavailableError
from engine.machine.environment import set_child_environment
from engine.runtime.report.closing import files_line, gone
from engine.verify import as_lines

if TYPE_CHECKING:
    from engine.fleet.finish import Merged

#: Seconds between two tries while the database doesn't answer.
RETRY_S = 5.0


@command("merge", resumes=True)
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = _parser().parse_args(argv)
    adapters.check(args.adapter)
    set_child_environment()
    return _run(args)


def _retry_until_available(run_dir: Path, args: argparse.Namespace) -> Merged:
    """Merge; repeat it while the database doesn't answer, until the deadline: every step may be repeated."""
    from engine.fleet.finish import merge

    ends, waiting = time.monotonic() + args.database_deadline, False
    while True:
        try:
            return merge(run_dir, args.adapter, args.prune)
        except DatabaseUnavailableError as error:
            if time.monotonic() >= ends:
                raise
            if not waiting:
                say("merge", f"waiting for the database: {error}")
            waiting = True
        time.sleep(min(RETRY_S, max(0.0, ends - time.monotonic())))


def _run(args: argparse.Namespace) -> int:
    run_dir = Path(args.run_dir).absolute()
    merged = _retry_until_available(run_dir, args)
    summary = merged.summary
    if args.json:
        print(json.dumps(asdict(summary)))
        return summary.exit_code
    print(f"tasks: {summary.tasks:,}")
    print(files_line(summary.files))
    print(f"index: {summary.totals.records:,} records of {summary.totals.files:,} files")
    if merged.gone:
        print(gone(merged.gone))
    if merged.difference is not None:
        for line in as_lines(merged.difference):
            print(line)
    for line in summary.not_done[:10]:
        print(f"not done: {harmless(line)}")
    if summary.not_done:
        print(
            f"stopped: {len(summary.not_done):,} tasks are not done, so nothing was published; run them again"
            " with the same options, then run this command again"
        )
    elif not merged.difference or not merged.difference.agrees:
        repair = f"python -m engine.verify --run-dir {run_dir} --adapter {args.adapter} --repair"
        print(f"error: ledgers and database differ; repair with {repair}")
    seconds = sum(summary.merge_steps_s.values())
    print(f"{summary.status} after {seconds:.1f} s; summary in {run_dir / 'summary.json'}")
    return summary.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "merge",
        "Make one proven index of what the tasks of a fleet (engine.run --fleet --shard I/N) have"
        " written, and one summary.",
    )
    add = parser.add_argument
    add("--run-dir", required=True, metavar="DIR", help="that the tasks share")
    add("--adapter", required=True, metavar="URL", help="the index")
    add("--prune", action="store_true", help="delete the records of files that left the corpus")
    add("--database-deadline", type=seconds, default=900.0, metavar="SECONDS",
        help="longest wait for a database that doesn't answer (default 900)")  # fmt: skip
    add("--json", action="store_true", help="print the summary as one JSON object")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
