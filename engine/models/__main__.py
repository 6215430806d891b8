"""`python -m engine.models fetch NAME... --to DIR`: models as folders, for machines without a network."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.errors import EXIT_DONE
from engine.models.files.fetch import check, fetch


@command("models")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 where a model is not available or not complete."""
    args = _parser().parse_args(argv)
    if args.command == "check":
        for name in args.folders:
            found = check(Path(name).absolute())
            print(f"{name}: {found.name}, {len(found.files)} files of {found.size:,} bytes, whole")
        return EXIT_DONE
    for name in args.names:
        folder, found = fetch(name, Path(args.to).absolute())
        print(f"{name}: {len(found.files)} files of {found.size:,} bytes: --{found.kind}-model {folder}")
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "models",
        "Models as folders, for machines without a network.",
        {
            "fetch sentence-transformers/all-MiniLM-L6-v2 --to models/": "copy a model into a folder",
            "check models/*": "compare those folders with their checksums",
        },
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="fetch|check")
    add = commands.add_parser("fetch", help="copy models into folders, with checksums").add_argument
    add("names", nargs="+", metavar="NAME",
        help="a hub id of sentence-transformers; architecture/tag or hf-hub:org/name")  # fmt: skip
    add("--to", required=True, metavar="DIR", help="a folder is made in it for each model")
    add = commands.add_parser("check", help="compare such folders with their checksums").add_argument
    add("folders", nargs="+", metavar="FOLDER", help="that fetch has made")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
