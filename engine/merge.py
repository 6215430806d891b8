"""`python -m engine.merge --run-dir DIR --adapter URL`: the last job of a fleet, after all of its tasks."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.config import CommandParser, check_url, engine_version
from engine.errors import DatabaseUnavailableError, EngineError, UsageError
from engine.run import CHILD_ENVIRONMENT
from engine.runtime.limits import RunStoppedError
from engine.terminal import harmless
from engine.verify import as_lines

#: Exit codes, as of `engine.run`.
EXIT_ENGINE_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 75


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    try:
        args = _parser().parse_args(argv)
        check_url(args.adapter)
        for name, value in CHILD_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return _run(args)
    except DatabaseUnavailableError as error:
        return _failed(f"{error}; the same command goes on", EXIT_STOPPED)
    except UsageError as error:
        return _failed(error, EXIT_USAGE)
    except RunStoppedError as error:
        return _failed(f"{error}; the same command goes on", EXIT_STOPPED)
    except EngineError as error:
        return _failed(error, EXIT_ENGINE_FAILED)
    except (OSError, sqlite3.DatabaseError) as error:
        return _failed(f"{error}; the same command goes on", EXIT_STOPPED)
    except KeyboardInterrupt:
        return _failed("interrupted; the same command goes on", EXIT_STOPPED)


def _run(args: argparse.Namespace) -> int:
    from engine.runtime.fleet import merge

    run_dir = Path(args.run_dir).absolute()
    merged = merge(run_dir, args.adapter, args.prune)
    if args.json:
        print(json.dumps(merged.summary))
        return merged.exit_code
    files = merged.summary["files"]
    parts = [f"{count:,} {name}" for name, count in files.items() if count and name != "discovered"]
    print(f"tasks: {merged.summary['tasks']:,}")
    print(f"files: {files['discovered']:,} found: {', '.join(parts) or 'nothing to do'}")
    totals = merged.summary["totals"]
    print(f"index: {totals['records']:,} records of {totals['files']:,} files")
    if merged.difference is not None:
        for line in as_lines(merged.difference):
            print(line)
    for line in merged.unfinished[:10]:
        print(f"not done: {harmless(line)}")
    if merged.unfinished:
        print(
            f"stopped: {len(merged.unfinished):,} tasks are not done, nothing was published; run them again"
            " with the same options, then this command"
        )
    elif not merged.difference or not merged.difference.agrees:
        repair = f"python -m engine.verify --run-dir {run_dir} --adapter {args.adapter} --repair"
        print(f"error: mend it with {repair}")
    print(f"{merged.status} after {merged.seconds:.1f} s; summary in {run_dir / 'summary.json'}")
    return merged.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m engine.merge",
        description="Make one proven index of what the tasks of a fleet (engine.run --fleet --shard I/N) have"
        " written, and one summary.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--run-dir", required=True, metavar="DIR", help="that the tasks share")
    add("--adapter", required=True, metavar="URL", help="the index")
    add("--prune", action="store_true", help="delete the records of files that left the corpus")
    add("--json", action="store_true", help="print the summary as one JSON object")
    add("--version", action="version", version=engine_version())
    return parser


def _failed(error: Exception | str, code: int) -> int:
    print(f"engine.merge: {harmless(' '.join(str(error).split()))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
