"""`python -m engine.slurm submit|status|resume|cancel`: a fleet on a cluster."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.cli.terminal import say
from engine.errors import EXIT_STOPPED, UsageError
from engine.slurm import commands, fleet
from engine.slurm.fleet import Fleet


@command("slurm")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    more = given[end + 1 :]
    try:
        args, rest = _parser().parse_known_args(given[:end])
        if args.command == "submit":
            return commands.submit(args, rest, more)
        if rest or more:
            raise UsageError(f"{' '.join([*rest, *more])}: not an option of {args.command} (see --help)")
        known = fleet.load(Path(args.run_dir).absolute())
        if known is None:
            raise UsageError(
                f"--run-dir {args.run_dir}: no {fleet.RECORD} there; engine.slurm submit makes one"
            )
        call: Callable[[argparse.Namespace, Fleet], int] = args.call
        return call(args, known)
    except KeyboardInterrupt:
        say("slurm", "interrupted; engine.slurm status tells what was submitted")
        return EXIT_STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "slurm",
        "Run a fleet on SLURM: tasks that each take a share of the files, and a finishing job.",
        {
            "submit /data --adapter lancedb:///shared/index --run-dir /shared/run --concurrent 8":
                "share the files out; eight tasks at once",
            "status --run-dir /shared/run": "say where each task is",
        },
    )  # fmt: skip
    commands_of = parser.add_subparsers(dest="command", required=True, metavar="submit|status|resume|cancel")
    one = commands_of.add_parser(
        "submit",
        allow_abbrev=False,
        usage="python -m engine.slurm submit INPUT... --adapter URL --concurrent K [options]"
        " [options of engine.run] [-- options of sbatch]",
        help="write the scripts and submit them",
        description="Submit an array of tasks, and a job that merges their results. Options that are not"
        " listed here go to engine.run in each task; what follows -- goes to sbatch.",
    )
    add = one.add_argument
    add("--tasks", type=_count, metavar="N",
        help="number of tasks, each with a share of the files (default: 32 times --concurrent)")  # fmt: skip
    add("--run-dir", metavar="DIR", help="a directory that all nodes can write (default: as for engine.run)")
    add("--concurrent", type=_count, metavar="K", help="most tasks at once")
    add("--gpus-per-task", type=_count, metavar="G", help="as --gres=gpu:G")
    add("--cpus-per-task", type=_count, metavar="C", help="cores of a task")
    add("--mem", metavar="SIZE", help="memory of a task, as for sbatch; the engine uses at most 90 %% of it")
    add("--time", metavar="LIMIT", help="time limit of a task, as for sbatch; a later start continues")
    add("--partition", metavar="NAME", help="of the cluster")
    add("--prune", action="store_true", help="let the finishing job delete records of files that are gone")
    add("--wait", action="store_true", help="wait for the finishing job, and end with its exit code")
    add("--dry-run", action="store_true", help="print the scripts, and submit nothing")
    for name, call, text in (
        ("status", commands.status, "the state of each task"),
        ("resume", commands.resume, "submit the tasks that are not done again"),
        ("cancel", commands.cancel, "cancel all tasks"),
    ):
        one = commands_of.add_parser(name, help=text, allow_abbrev=False)
        one.set_defaults(call=call)
        one.add_argument("--run-dir", required=True, metavar="DIR", help="of the fleet")
        if name == "resume":
            one.add_argument("--wait", action="store_true", help="wait for the finishing job")
        if name == "status":
            one.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    run_and_exit(main)
