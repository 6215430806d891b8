"""What each command of `engine.slurm` does."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from engine.cli.options import parse
from engine.cli.terminal import harmless
from engine.config import Config
from engine.errors import EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_STOPPED, UsageError
from engine.fleet.shards import SHARDS_PER_TASK, heaviest_first, work_of_shards
from engine.machine.batch_job import SlurmError, call, settings
from engine.runtime.report.summary import SUMMARY_FILE, read_summary
from engine.slurm import client, fleet
from engine.slurm.fleet import Fleet
from engine.slurm.script import FLEET, Requested
from engine.slurm.states import Task, task_states
from engine.sources import check_inputs

#: Seconds between two looks at the queue, and most of them for which SLURM may be away meanwhile.
POLL_S, AWAY_S = 5.0, 900.0

#: Options of `engine.run` that are not for a task of a fleet to have.
OWN = ("--shard", "--run-dir", "--fleet", "--prune", "--limit", "--full", "--dry-run")

#: Seconds between SIGTERM and SIGKILL that a drain leaves, and the least and most that it gets.
SPARE_S, LEAST_GRACE_S, MOST_GRACE_S = 5, 5, 60


def submit(args: argparse.Namespace, given: Sequence[str], more: Sequence[str]) -> int:
    """Write the scripts, and submit them. `given` goes to `engine.run`, `more` to sbatch."""
    wanted, checked = _wanted(args, given, more)
    if args.dry_run:
        for name, text in wanted.scripts().items():
            print(_harmless_lines(f"# {wanted.run_dir / name}\n{text}"))
        return EXIT_DONE
    known = fleet.load(wanted.run_dir)
    if known is not None:
        fleet.check_same(known, wanted)
        _refuse_while_queued(known)
    grace = _grace(given)
    check_inputs(checked.corpus.inputs, checked.corpus.files_from)
    order = tuple(heaviest_first(work_of_shards(checked, wanted.tasks)))
    return _start(replace(wanted, grace=grace, order=order), range(wanted.tasks), args.wait)


def _wanted(args: argparse.Namespace, given: Sequence[str], more: Sequence[str]) -> tuple[Fleet, Config]:
    """The fleet that is asked for, and the configuration that its tasks have in common. Raises `UsageError`
    for what `engine.run` would refuse in each task."""
    if not (args.tasks or args.concurrent):
        raise UsageError(
            f"--tasks: give the number of shards, or --concurrent K for {SHARDS_PER_TASK} times as many"
        )
    tasks = args.tasks or SHARDS_PER_TASK * args.concurrent
    named = [] if args.run_dir is None else ["--run-dir", args.run_dir]
    for word in given:
        if (option := word.partition("=")[0]) in OWN:
            raise UsageError(f"{option}: not an option for the tasks of a fleet (see --help)")
    checked = parse([*given, *named])
    if checked.corpus.files_from == "-":
        raise UsageError("--files-from -: tasks have no standard input; name a file that all nodes can read")
    place = ["--run-dir", str(checked.run_dir), "--shard", f"0/{tasks}"]
    parse([*given, *place, *FLEET])
    corpus = checked.corpus
    narrowed = corpus.include or corpus.exclude or corpus.files_from or not checked.parsing.images
    if args.prune and narrowed:
        raise UsageError(
            "--prune: not with --include, --exclude, --no-images or --files-from: the finishing job can't"
            " tell then what has left the corpus, and would end without publishing"
        )
    for text in (str(checked.run_dir), os.getcwd(), *more):
        if not text.isprintable():
            raise UsageError(f"{text!a}: can't stand in a job script; give it a name of printable characters")
    names = ("concurrent", "gpus_per_task", "cpus_per_task", "time", "partition", "mem")
    wanted = Fleet(
        run_dir=checked.run_dir,
        folder=os.getcwd(),
        adapter=checked.database.adapter,
        tasks=tasks,
        arguments=tuple(given),
        inputs=checked.corpus.inputs,
        prune=args.prune,
        requested=Requested(**{name: getattr(args, name) for name in names}, more=tuple(more)),
    )
    return wanted, checked


def _grace(given: Sequence[str]) -> float | None:
    """Seconds in which a task that is preempted must have drained here; None where the user has said."""
    if any(word.partition("=")[0] == "--grace" for word in given):
        return None
    wait = settings().get("KillWait", "").partition(" ")[0]
    return max(LEAST_GRACE_S, min(MOST_GRACE_S, int(wait) - SPARE_S)) if wait.isdigit() else None


def _start(wanted: Fleet, tasks: Sequence[int], wait: bool) -> int:
    submitted = fleet.submit(wanted, tasks, time.time())
    which = f"{len(tasks):,} of {wanted.tasks:,} tasks as job {submitted.job}, and the " if tasks else "the "
    print(
        f"submitted {which}finishing job {submitted.finish}; scripts and logs are in"
        f" {harmless(str(wanted.run_dir))}",
        flush=True,
    )
    return _wait(submitted) if wait else EXIT_DONE


def _wait(submitted: Fleet) -> int:
    """Stay until the finishing job has ended; its exit code."""
    try:
        _stay(submitted)
        code = client.ended(str(submitted.finish))
    except KeyboardInterrupt:
        print("engine.slurm: no longer waiting; the jobs stay in the queue", file=sys.stderr)
        return EXIT_STOPPED
    log = submitted.log_of_finish()
    try:
        print(_harmless_lines(log.read_text(encoding="utf-8", errors="replace")), end="")
    except OSError:
        print(f"engine.slurm: the finishing job has left no {log}", file=sys.stderr)
    return _code_in_summary(submitted) if code is None else code


def _stay(submitted: Fleet) -> None:
    heard = time.monotonic()
    while True:
        try:
            if not client.queued([str(submitted.finish)]):
                return
            heard = time.monotonic()
        except SlurmError as error:
            # The controller may be restarting; jobs continue meanwhile.
            if time.monotonic() - heard > AWAY_S:
                raise UsageError(f"{error}; the jobs may still run; see engine.slurm status") from None
        time.sleep(POLL_S)


def _code_in_summary(submitted: Fleet) -> int:
    """The exit code where SLURM has forgotten the job: that of its summary, if it is no older one."""
    path = submitted.run_dir / SUMMARY_FILE
    summary = read_summary(submitted.run_dir)
    if summary is None or summary.exit_code is None or path.stat().st_mtime < submitted.submitted:
        return EXIT_ENGINE_FAILED
    return summary.exit_code


def _harmless_lines(text: str) -> str:
    """The text, line by line harmless for a terminal."""
    return "".join(f"{harmless(line)}\n" for line in text.splitlines())


def _refuse_while_queued(known: Fleet) -> None:
    if queue := client.queued(known.jobs):
        raise UsageError(
            f"--run-dir {known.run_dir}: {len(queue):,} of its tasks and jobs are in the queue, such as"
            f" {next(iter(queue))}; wait for them, or cancel them with engine.slurm cancel"
        )


def status(args: argparse.Namespace, known: Fleet) -> int:
    """A table of the tasks by state."""
    try:
        queue, asked = client.queued(known.jobs), True
    except SlurmError as error:
        why = f"SLURM's queue can't be read ({error})"
        print(f"engine.slurm: {why}; the states are those of the run directories", file=sys.stderr)
        queue, asked = {}, False
    tasks = list(task_states(known, queue))
    finish = queue.get(known.finish or "", "not in the queue" if asked else "not known").lower()
    if args.json:
        print(json.dumps({"job": known.job, "finish": known.finish, "finishing_job": finish,
                          "tasks": [asdict(one) for one in tasks]}))  # fmt: skip
        return EXIT_DONE
    states = Counter(one.state for one in tasks)
    print(f"{'tasks':>7} {'records':>13} {'failures':>9}  state")
    for state, _ in states.most_common():
        _row([one for one in tasks if one.state == state], state)
    if len(states) > 1:
        _row(tasks, "in all")
    print(f"finishing job {known.finish}: {finish}")
    if cut_off := [one.number for one in tasks if one.state in ("cut off", "error")]:
        print(f"the log of task {cut_off[0]}: {known.log_of(cut_off[0])}")
    return EXIT_DONE


def _row(tasks: Sequence[Task], state: str) -> None:
    records, failures = sum(one.records for one in tasks), sum(one.failures for one in tasks)
    print(f"{len(tasks):>7,} {records:>13,} {failures:>9,}  {harmless(state)}")


def resume(args: argparse.Namespace, known: Fleet) -> int:
    """Submit the tasks that are not done once more, with the options of before."""
    _refuse_while_queued(known)
    return _start(known, [one.number for one in task_states(known, {}) if not one.done], args.wait)


def cancel(_: argparse.Namespace, known: Fleet) -> int:
    """Take everything out of the queue."""
    queue = client.queued(known.jobs)
    if queue:
        # The finishing job first: it would begin when the last task is gone.
        call("scancel", *known.jobs)
    print(f"{len(queue):,} tasks and jobs were cancelled; continue with engine.slurm resume")
    return EXIT_DONE
