"""The command of a benchmark with several cases: a parser for each, a work folder, one line for an error."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from benchmarks.memory import figures
from engine.runtime.report.summary import Summary, read_summary


class BenchError(Exception):
    """A case can't go on; the text is for the user."""


def run_case(
    program: str,
    description: str | None,
    cases: Mapping[str, ModuleType],
    common_options: Callable[[argparse.ArgumentParser], None],
    run: Callable[[ModuleType, argparse.Namespace, Path], None],
) -> int:
    """Parse the command line and run the case that it names; returns the exit code.

    Each case is a module with `add_options`; `run` gets it, the options, and the folder for its work, which
    is a temporary one unless `--work` names another.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    names = parser.add_subparsers(dest="case", required=True, metavar="NAME")
    for name, module in cases.items():
        one = names.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        common_options(one)
        module.add_options(one)
    args = parser.parse_args()
    try:
        figures.check_plot(args.plot)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            work = (args.work or Path(temporary)).absolute()
            work.mkdir(parents=True, exist_ok=True)
            run(cases[args.case], args, work)
    except (BenchError, figures.PlotError) as error:
        print(f"{args.case}: {error}", file=sys.stderr)
        return 1
    return 0


def summary_of(run_dir: Path) -> Summary:
    """The summary that a run left. Raises `BenchError` where there is none."""
    if (summary := read_summary(run_dir)) is None:
        raise BenchError(f"no summary in {run_dir}")
    return summary
