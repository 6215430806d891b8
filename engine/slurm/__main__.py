"""`python -m engine.slurm submit|status|resume|cancel`: a fleet on a cluster."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import config as configuration
from engine.config import CommandParser, engine_version
from engine.errors import UsageError
from engine.slurm import client, fleet
from engine.slurm.fleet import Fleet
from engine.slurm.script import Wishes
from engine.terminal import harmless

#: Exit codes: done; usage, or SLURM refused. With --wait those of `engine.merge`.
EXIT_DONE, EXIT_USAGE = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    given, more = (
        (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    )
    try:
        args, rest = _parser().parse_known_args(given)
        if args.command != "submit" and (rest or more):
            raise UsageError(f"{' '.join([*rest, *more])}: not an option of {args.command} (see --help)")
        if args.command == "submit":
            return _submit(args, rest, tuple(more))
        known = fleet.load(Path(args.run_dir).absolute())
        if known is None:
            raise UsageError(
                f"--run-dir {args.run_dir}: no {fleet.RECORD} there; engine.slurm submit makes one"
            )
        command: Callable[[argparse.Namespace, Fleet], int] = args.call
        return command(args, known)
    except UsageError as error:
        print(f"engine.slurm: {harmless(' '.join(str(error).split()))}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("engine.slurm: interrupted; engine.slurm status tells what was submitted", file=sys.stderr)
        return EXIT_USAGE


def _submit(args: argparse.Namespace, rest: list[str], more: tuple[str, ...]) -> int:
    # What engine.run would refuse is refused here, and not by hundreds of tasks.
    checked = configuration.parse([*rest, "--run-dir", args.run_dir, "--fleet", "--shard", f"0/{args.tasks}"])
    names = ("concurrent", "gpus_per_task", "cpus_per_task", "time", "partition", "mem")
    wanted = Fleet(
        run_dir=Path(args.run_dir).absolute(),
        adapter=checked.adapter,
        tasks=args.tasks,
        arguments=tuple(_absolute(rest, checked.inputs)),
        prune=args.prune,
        wishes=Wishes(**{name: getattr(args, name) for name in names}, more=more),
    )
    if args.dry_run:
        for name, text in wanted.scripts().items():
            print(f"# {wanted.run_dir / name}\n{text}")
        return EXIT_DONE
    known = fleet.load(wanted.run_dir)
    if known is not None:
        fleet.check_same(known, wanted)
        _refuse_while_queued(known)
        wanted = Fleet(**{**vars(wanted), "jobs": known.jobs})
    try:
        wanted.run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--run-dir {args.run_dir}: {(error.strerror or str(error)).lower()}") from None
    return _start(wanted, range(wanted.tasks), args.wait)


def _absolute(rest: Sequence[str], inputs: Sequence[str]) -> list[str]:
    """The options as given, with inputs and the list of files under the paths that a task can find."""
    found = []
    for word, before in zip(rest, ["", *rest], strict=False):
        path = os.path.abspath(word)
        named = path in inputs and not word.startswith("-") and not before.startswith("--")
        found.append(path if named or before in ("--files-from", "--manifest") else word)
    return found


def _start(wanted: Fleet, tasks: Sequence[int], wait: bool) -> int:
    submitted = fleet.submit(wanted, tasks)
    print(
        f"submitted {len(tasks):,} of {wanted.tasks:,} tasks as job {submitted.jobs[-1]}, and the finishing"
        f" job {submitted.finish}, which begins when they have ended; scripts and logs in {wanted.run_dir}"
    )
    if not wait:
        return EXIT_DONE
    return _wait(submitted)


def _wait(submitted: Fleet) -> int:
    """Stay until the finishing job has ended; its exit code."""
    print("waiting for the finishing job; Ctrl-C leaves it in the queue", flush=True)
    log = submitted.run_dir / "logs" / "finish.log"
    while client.queued([submitted.finish or ""]):
        try:
            # Any change of the queue would do; SLURM has no call that waits for a job it has already.
            subprocess.run(["sleep", "5"], check=False)
        except KeyboardInterrupt:
            return EXIT_DONE
    try:
        summary = json.loads((submitted.run_dir / "summary.json").read_text(encoding="utf-8"))
        code = int(summary["exit_code"])
    except (OSError, ValueError, KeyError):
        raise UsageError(f"the finishing job left no summary; see {log}") from None
    print(log.read_text(encoding="utf-8", errors="replace"), end="")
    return code


def _refuse_while_queued(known: Fleet) -> None:
    jobs = [*known.jobs, *([known.finish] if known.finish else [])]
    if queue := client.queued(jobs):
        raise UsageError(
            f"--run-dir {known.run_dir}: {len(queue)} of its tasks are in the queue ({next(iter(queue))}, …);"
            " engine.slurm cancel takes them out"
        )


def _status(args: argparse.Namespace, known: Fleet) -> int:
    jobs = [*known.jobs, *([known.finish] if known.finish else [])]
    queue = client.queued(jobs)
    tasks = list(fleet.standing(known, queue))
    if args.json:
        told = [{"task": one.number, "state": one.state, "records": one.records, "failures": one.failures}
                for one in tasks]  # fmt: skip
        print(json.dumps({"tasks": told, "finish": queue.get(known.finish or "")}))
        return EXIT_DONE
    states: dict[str, list[fleet.Task]] = {}
    for one in tasks:
        states.setdefault(one.state, []).append(one)
    print(f"{'tasks':>7} {'records':>13} {'failures':>9}  state")
    for state, members in sorted(states.items(), key=lambda item: -len(item[1])):
        records, failures = sum(one.records for one in members), sum(one.failures for one in members)
        print(f"{len(members):>7,} {records:>13,} {failures:>9,}  {state}")
    print(f"finishing job {known.finish}: {queue.get(known.finish or '', 'not in the queue').lower()}")
    return EXIT_DONE


def _resume(args: argparse.Namespace, known: Fleet) -> int:
    _refuse_while_queued(known)
    left = [one.number for one in fleet.standing(known, {}) if not one.done]
    if not left:
        print("every task is done; the finishing job alone is submitted", flush=True)
        left = [0]  # It has nothing left to do, and the finishing job one to wait for.
    return _start(known, left, args.wait)


def _cancel(_: argparse.Namespace, known: Fleet) -> int:
    jobs = [*known.jobs, *([known.finish] if known.finish else [])]
    queue = client.queued(jobs)
    if queue:
        client.call("scancel", *{name.partition("_")[0] for name in queue})
    print(f"{len(queue):,} tasks and jobs were taken out of the queue; engine.slurm resume goes on")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m engine.slurm",
        description="Run a fleet on SLURM: tasks that each take a share of the files, and a finishing job.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=engine_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="submit|status|resume|cancel")
    submit = commands.add_parser(
        "submit",
        allow_abbrev=False,
        usage="python -m engine.slurm submit INPUT... --adapter URL --tasks N --run-dir DIR [options]"
        " [options of engine.run] [-- options of sbatch]",
        help="write the scripts into DIR and submit them",
    )
    add = submit.add_argument
    add("--tasks", type=_count, required=True, metavar="N", help="shares of the files")
    add("--run-dir", required=True, metavar="DIR", help="that all nodes can read and write")
    add("--concurrent", type=_count, metavar="K", help="tasks at once, at most")
    add("--gpus-per-task", type=_count, metavar="G", help="--gres=gpu:G")
    add("--cpus-per-task", type=_count, metavar="C", help="cores of a task")
    add("--time", metavar="LIMIT", help="of a task, as sbatch takes it; a task that is not done is requeued")
    add("--partition", metavar="NAME", help="of the cluster")
    add(
        "--mem",
        metavar="SIZE",
        help="memory of a task, as sbatch takes it; the engine plans with 90 %% of it",
    )
    add("--prune", action="store_true", help="let the finishing job delete what left the corpus")
    add(
        "--wait",
        action="store_true",
        help="stay until the finishing job has ended, and exit as engine.run does",
    )
    add("--dry-run", action="store_true", help="print the scripts, and submit nothing")
    for name, call, text in (
        ("status", _status, "where each task stands"),
        ("resume", _resume, "submit the tasks that are not done once more"),
        ("cancel", _cancel, "take all tasks out of the queue"),
    ):
        one = commands.add_parser(name, help=text, allow_abbrev=False)
        one.set_defaults(call=call)
        one.add_argument("--run-dir", required=True, metavar="DIR", help="of the fleet")
        if name == "resume":
            one.add_argument("--wait", action="store_true", help="stay until the finishing job has ended")
        if name == "status":
            one.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
