"""`python -m engine.verify --run-dir DIR --adapter URL`: check that no record is missing, or repair that."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import adapters
from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.cli.terminal import harmless
from engine.errors import EXIT_DONE, EXIT_ENGINE_FAILED, UsageError
from engine.machine.environment import set_child_environment
from engine.repair.compare import Difference, Finding, Repaired


@command("verify")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 where ledger and database agree, 1 where they differ."""
    args = _parser().parse_args(argv)
    adapters.check(args.adapter)
    if args.adopt and (args.repair or len(args.run_dir) > 1):
        raise UsageError("--adopt: give it one --run-dir, and no --repair")
    folders = [Path(name).absolute() for name in args.run_dir]
    try:
        return _run(args, folders)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(str(error)) from None


def _run(args: argparse.Namespace, folders: Sequence[Path]) -> int:
    # Imported late: the engine's processes import this module too, and need none of it.
    from engine.repair.adopt import adopt
    from engine.repair.verification import repair, verify

    told: dict[str, object] = {}
    repaired = Repaired()
    if args.adopt:
        adopted = adopt(folders[0], args.adapter)
        told["adopted"] = asdict(adopted)
        if not args.json:
            print(
                f"adopted {adopted.records:,} records: {adopted.whole:,} files are complete,"
                f" {adopted.to_make:,} are still to be indexed, {adopted.gone:,} no longer exist"
            )
    elif args.repair:
        set_child_environment()
        repaired = repair(folders, args.adapter)
        told["repaired"] = asdict(repaired)
    difference = verify(folders, args.adapter)
    if args.json:
        print(json.dumps({**difference.as_dict(), **told}))
    else:
        for line in as_lines(difference, repaired):
            print(line)
    return EXIT_DONE if difference.agrees and not repaired.not_made.count else EXIT_ENGINE_FAILED


def as_lines(difference: Difference, repaired: Repaired = Repaired()) -> Iterator[str]:  # noqa: B008
    """What a person reads: counts, and up to ten examples of each kind of difference."""
    yield f"{difference.acknowledged:>12,}  records are acknowledged"
    yield f"{difference.in_database:>12,}  records are in the database"
    if difference.replaced:
        yield f"{difference.replaced:>12,}  from older versions of files, which the next run deletes"
    yield from _finding(difference.missing, "missing: acknowledged, and not in the database")
    yield from _finding(difference.extra, "extra: in the database, and in no ledger named here")
    yield from _finding(difference.wrong, "wrong content")
    if repaired.deleted:
        yield f"{repaired.deleted:>12,}  deleted by the repair"
    if repaired.not_made.count:
        yield from _finding(repaired.not_made, "files could not be indexed again; failures.jsonl says why")
    if not difference.vectors_checked:
        yield "vectors were not compared: this index does not return them"
    if difference.pending:
        yield f"{difference.pending:,} files are pending: run the same engine.run command again to continue"
    yield "ledger and database agree" if difference.agrees else "ledger and database differ"


def _finding(finding: Finding, what: str) -> Iterator[str]:
    yield f"{finding.count:>12,}  {what}"
    for example in finding.examples:
        page = "" if example.page is None else f" (page {example.page})"
        why = f": {example.why}" if example.why else ""
        yield " " * 14 + harmless(f"{example.id} {example.source}".strip() + page + why)
    if finding.count > len(finding.examples):
        yield " " * 14 + "…"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "verify",
        "Compare the records that run directories know as acknowledged with those in the database.",
        {
            "--run-dir runs/0a1b2c --adapter lancedb://vectors.lancedb": "prove that nothing is missing",
            "--run-dir runs/0a1b2c --adapter lancedb://vectors.lancedb --repair": "make again what is",
        },
    )
    add = parser.add_argument
    add("--run-dir", required=True, action="append", metavar="DIR",
        help="of engine.run, or one with shards/ (repeatable: every run that filled the index)")  # fmt: skip
    add("--adapter", required=True, metavar="URL", help="the index")
    add("--repair", action="store_true",
        help="delete extra and wrong records, and index missing ones again")  # fmt: skip
    add("--adopt", action="store_true", help="rebuild a lost ledger from the records in the database")
    add("--json", action="store_true", help="one JSON object on standard output")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
