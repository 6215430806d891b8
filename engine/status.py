"""`python -m engine.status --run-dir DIR`: where a run stands, also while it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.cli.terminal import harmless
from engine.errors import EXIT_DONE
from engine.runtime.report.status import Failures, Standing, merged, standings


@command("status")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for what is no run directory."""
    args = _parser().parse_args(argv)
    folder = Path(args.run_dir)
    stands = standings(folder)
    if args.json:
        print(json.dumps(as_dict(folder, stands)))
    else:
        for line in as_lines(folder, stands):
            print(harmless(line))
    return EXIT_DONE


def as_dict(folder: Path, stands: Sequence[Standing]) -> dict[str, object]:
    """For `--json`: the sum, and each run directory below."""
    files, records, failures = merged(list(stands))
    return {
        "run_dir": str(folder),
        "running": any(each.owner is not None for each in stands),
        "files": files,
        "records": records,
        "failures": [asdict(one) for one in failures],
        "runs": [asdict(each) for each in stands],
    }


def as_lines(folder: Path, stands: Sequence[Standing]) -> Iterator[str]:
    """What a person reads: a run at length; of shards the sum, and a line for each."""
    files, records, failures = merged(list(stands))
    if len(stands) == 1:
        (only,) = stands
        yield f"{only.run_dir}: {_state(only)}"
        if only.adapter:
            yield f"adapter: {only.adapter}"
        if only.status:
            yield from _progress(only.status)
        elif only.owner is None and only.summary:
            yield f"last run: {_summary(only.summary)}"
    else:
        running = sum(each.owner is not None for each in stands)
        yield f"{folder}: {len(stands)} shards, {running} running"
        for each in stands:
            name = Path(each.run_dir).name
            yield f"  {name}: {_state(each)}; {_files(each)}, {each.records:,} records"
    if all(each.ledger_read for each in stands):
        yield f"ledger: {_counts(files) or 'no files yet'}; {records:,} records acknowledged"
    else:
        yield "ledger: not read while a run writes it on a network file system"
    yield from _failures(failures)


def _state(stands: Standing) -> str:
    """Running or not, and what the last run came to."""
    owner = stands.owner
    if owner is not None:
        return f"running, process {owner.pid} on {owner.host}, last sign {owner.age_s:.0f} s ago"
    if stands.summary is None:
        return "not running; no run has come to an end yet"
    status, code = stands.summary.get("status"), stands.summary.get("exit_code")
    return f"not running; the last run that ended: {status}, exit code {code}, {_ago(stands.summary_age_s)}"


def _progress(status: dict[str, Any]) -> Iterator[str]:
    """What a running run says of itself."""
    counts, chunks, rates = (status.get(name, {}) for name in ("files", "chunks", "throughput"))
    yield f"this run: {status.get('seconds', 0):,.0f} s; files: {_counts(counts) or 'none yet'}"
    yield (
        f"chunks: {chunks.get('text', 0):,} text and {chunks.get('image', 0):,} image embedded,"
        f" {chunks.get('indexed', 0):,} records written, {chunks.get('deleted', 0):,} deleted"
    )
    yield (
        f"rates: {rates.get('chunks_per_s', 0):,.1f} chunks/s, {rates.get('tokens_per_s', 0):,.0f} tokens/s,"
        f" {rates.get('images_per_s', 0):,.1f} images/s"
    )
    in_flight, peak = status.get("in_flight_bytes"), status.get("peak_in_flight_bytes", 0)
    now = "" if in_flight is None else f"{in_flight / 2**20:,.1f} MiB, "
    yield f"in flight: {now}at most {peak / 2**20:,.1f} MiB so far"
    yield f"database: {status.get('database') or 'answers'}"


def _summary(summary: dict[str, Any]) -> str:
    files, rates = summary.get("files", {}), summary.get("throughput", {})
    return (
        f"{summary.get('seconds', 0):,.1f} s; files: {_counts(files) or 'none'};"
        f" {rates.get('chunks_per_s', 0):,.1f} chunks/s, {rates.get('tokens_per_s', 0):,.0f} tokens/s"
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


def _files(stands: Standing) -> str:
    return f"{sum(stands.files.values()):,} files"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "at an unknown time"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("status", "Tell where a run stands, also while it runs, and what failed and why.")
    add = parser.add_argument
    add("--run-dir", required=True, metavar="DIR", help="of engine.run, or one with shards/")
    add("--json", action="store_true", help="one JSON object on standard output")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
