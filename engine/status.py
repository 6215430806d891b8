"""`python -m engine.status --run-dir DIR`: where a run has got to, also while it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.cli.terminal import harmless
from engine.errors import EXIT_DONE, UsageError
from engine.runtime.report.status import Failures, RunState, find_runs, merged, read_states
from engine.runtime.report.summary import Status, Summary

#: Run directories that are listed at most: as many as fit a screen.
MOST_LISTED = 10


@command("status")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for what is no run directory."""
    args = _parser().parse_args(argv)
    named = Path(args.run_dir or ".")
    runs = find_runs(named)
    if not runs and args.run_dir is None:
        raise UsageError("no run directory here, nor in runs/; name one by --run-dir")
    if len(runs) > 1:
        shown = runs if args.json else runs[:MOST_LISTED]
        each = [(run, read_states(run, ledgers=False)) for run in shown]
        if args.json:
            print(json.dumps({"run_dirs": [as_dict(run, states) for run, states in each]}))
        else:
            for line in listed(each, len(runs) - len(shown)):
                print(harmless(line))
        return EXIT_DONE
    folder = runs[0] if runs else named
    states = read_states(folder)
    if args.json:
        print(json.dumps(as_dict(folder, states)))
    else:
        for line in as_lines(folder, states):
            print(harmless(line))
    return EXIT_DONE


def listed(runs: Iterable[tuple[Path, Sequence[RunState]]], older: int = 0) -> Iterator[str]:
    """Several run directories, two lines for each, and how many `older` ones there are."""
    for folder, states in runs:
        if len(states) == 1:
            yield f"{folder}: {_state(states[0])}"
        else:
            yield f"{folder}: {len(states)} shards, {sum(each.owner is not None for each in states)} running"
        yield f"    {states[0].command or 'its command is not known'}"
    if older:
        yield f"and {older:,} older run director{'y' if older == 1 else 'ies'}"
    yield "for more of one of them: --run-dir DIR"


def as_dict(folder: Path, states: Sequence[RunState]) -> dict[str, object]:
    """For `--json`: the sum, and each run directory below."""
    files, records, failures = merged(list(states))
    return {
        "run_dir": str(folder),
        "running": any(each.owner is not None for each in states),
        "files": files,
        "records": records,
        "failures": [asdict(one) for one in failures],
        "runs": [asdict(each) for each in states],
    }


def as_lines(folder: Path, states: Sequence[RunState]) -> Iterator[str]:
    """What a person reads: a run at length; of shards the sum, and a line for each."""
    files, records, failures = merged(list(states))
    if len(states) == 1:
        (only,) = states
        yield f"{only.run_dir}: {_state(only)}"
        if only.command:
            yield f"command: {only.command}"
        if only.adapter:
            yield f"adapter: {only.adapter}"
        if only.status:
            yield from _progress(only.status, "this run" if only.owner else "the killed run")
        elif only.owner is None and only.summary:
            yield f"last run: {_summary(only.summary)}"
    else:
        running = sum(each.owner is not None for each in states)
        yield f"{folder}: {len(states)} shards, {running} running"
        for each in states:
            name = Path(each.run_dir).name
            yield f"  {name}: {_state(each)}; {sum(each.files.values()):,} files, {each.records:,} records"
    if all(each.ledger_read for each in states):
        yield f"ledger: {_counts(files) or 'no files yet'}; {records:,} records acknowledged"
    else:
        yield "ledger: not read while a run writes it on a network file system"
    yield from _failures(failures)


def _state(state: RunState) -> str:
    """Running or not, and how the last run ended."""
    owner = state.owner
    if owner is not None:
        return f"running, process {owner.pid} on {owner.host}, last heartbeat {owner.age_s:.0f} s ago"
    if state.killed:
        killed = _ago(state.status_age_s)
        return f"not running; the last run was killed {killed}; run the same command again to continue"
    if (summary := state.summary) is None:
        return "not running; no run has come to an end yet"
    ended = f"{summary.status}, exit code {summary.exit_code}, {_ago(state.summary_age_s)}"
    return f"not running; the last run that ended: {ended}"


def _progress(status: Status, which: str) -> Iterator[str]:
    """What a run reports that is running, or did before it was killed."""
    chunks, rates, in_flight = status.chunks, status.throughput, status.in_flight_bytes
    yield f"{which}: {status.seconds:,.0f} s; files: {_counts(vars(status.files)) or 'none yet'}"
    if status.progress.bytes_total:
        yield f"progress: {status.progress.line()}"
    yield (
        f"chunks: {chunks.text:,} text and {chunks.image:,} image embedded,"
        f" {chunks.indexed:,} records written, {chunks.deleted:,} deleted"
    )
    yield (
        f"rates since the start: {rates.chunks_per_s:,.1f} chunks/s, {rates.tokens_per_s:,.0f} tokens/s,"
        f" {rates.images_per_s:,.1f} images/s"
    )
    now = "" if in_flight is None else f"{in_flight / 2**20:,.1f} MiB, "
    yield f"in flight: {now}at most {status.peak_in_flight_bytes / 2**20:,.1f} MiB so far"
    yield f"database: {status.database or 'answers'}"


def _summary(summary: Summary) -> str:
    rates = summary.throughput
    return (
        f"{summary.seconds:,.1f} s; files: {_counts(vars(summary.files)) or 'none'};"
        f" {rates.chunks_per_s:,.1f} chunks/s, {rates.tokens_per_s:,.0f} tokens/s over the whole run"
    )


def _failures(failures: Sequence[Failures]) -> Iterator[str]:
    if not failures:
        yield "failures: none"
        return
    yield f"failures: {sum(one.count for one in failures):,}, by reason:"
    for one in failures:
        page = one.example["page"]
        where = f"{one.example['source']}{'' if page is None else f' (page {page})'}"
        yield f"{one.count:>8,}  {one.stage}: {one.error_type}, such as {where}: {one.example['message']}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "at an unknown time"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "status",
        "Show how far a run has come, also while it runs, and what failed and why.",
        {
            "": "the run in this folder or its runs/; where there are several, a list of them",
            "--run-dir runs/0a1b2c --json": "one run, for programs",
        },
    )
    add = parser.add_argument
    add("--run-dir", metavar="DIR",
        help="of engine.run, or one with shards/ or with run directories (default: this folder)")  # fmt: skip
    add("--json", action="store_true", help="one JSON object on standard output")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
