"""`python -m engine.report --run-dir DIR`: one HTML page of a run, which needs no network or other file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine.cli.exits import command, run_and_exit
from engine.cli.parser import command_parser
from engine.cli.terminal import harmless
from engine.errors import EXIT_DONE, UsageError


@command("report")
def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 for what is no run directory or can't be written."""
    # Imported late, as by the other commands: the engine's processes import this module too.
    from engine.report.page import page
    from engine.runtime.report.record import read_run

    args = _parser().parse_args(argv)
    folder = (Path(args.run_dir) if args.run_dir else _only_run()).absolute()
    output = Path(args.output) if args.output else folder / "report.html"
    text = page(read_run(folder))
    try:
        output.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"--output {output}: {(error.strerror or str(error)).lower()}") from None
    print(harmless(str(output)))
    return EXIT_DONE


def _only_run() -> Path:
    """The one run directory in this folder or its `runs/`. Raises `UsageError` unless there is just one."""
    from engine.runtime.report.status import find_runs

    runs = find_runs(Path("."))
    if len(runs) != 1:
        several = f"{len(runs)} run directories here, which engine.status lists"
        found = several if runs else "no run directory here"
        raise UsageError(f"{found}; name one by --run-dir")
    return runs[0]


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "report", "Write an HTML page of a run: its speed over time, what limited it, and its memory."
    )
    add = parser.add_argument
    add("--run-dir", metavar="DIR", help="of engine.run (default: the only one in this folder or its runs/)")
    add("--output", metavar="FILE", help="the page (default DIR/report.html)")
    return parser


if __name__ == "__main__":
    run_and_exit(main)
