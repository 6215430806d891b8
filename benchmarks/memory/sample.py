"""How much memory does a command take, with all its processes, stage by stage, over time?

    python -m benchmarks.memory.sample [--interval S] [--json FILE] [--plot FILE.png]
                                       [--label STAGE=REGEX ...] -- COMMAND...

Runs the command and adds up, each half second, the proportional set size (PSS) of each process of its tree,
by stage: supervisor, parsers, inference and indexer of our engine; of other programs a stage for each
process, or those that the labels give to command lines. Prints the peaks on standard error and ends with the
command's own exit code. On macOS, which has no PSS, it counts RSS and says so.

Caveats: what lives shorter than the interval may be missed, and a peak between two samples is. Pages that
processes outside the tree map too (another run of the same program at the same time) count in part only.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from benchmarks.memory import figures
from benchmarks.memory.sampler import CommandError, Measurement, measure
from benchmarks.memory.stages import Stages, parse_label

#: Exit code of a mistake on the sampler's own command line.
EXIT_USAGE = 2


def main() -> int:
    """The command."""
    args = _parser().parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        return _say("no COMMAND: give it after --", EXIT_USAGE)
    try:
        figures.check_plot(args.plot)
        measured = measure(command, Stages(args.label), args.interval)
    except figures.PlotError as error:
        return _say(str(error), EXIT_USAGE)
    except CommandError as error:
        return _say(str(error), error.exit_code)
    print(told(measured), file=sys.stderr)
    try:
        if args.json:
            figures.write_json(args.json, measured.as_dict())
        if args.plot:
            figures.plot(args.plot, {Path(command[0]).name: measured})
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}", 0)
        return measured.exit_code or 1
    return measured.exit_code


def told(measured: Measurement) -> str:
    """The figures in a few lines."""
    unit = measured.unit.upper()
    note = (
        " (this system has no PSS; pages that processes share count once for each)" if unit == "RSS" else ""
    )
    samples = len(measured.series.seconds)
    return "\n".join(
        [
            f"peak {unit} in MB{note}:",
            figures.table([figures.peak_row(measured)]),
            f"{samples} samples in {measured.seconds:.1f} s, the longest gap {measured.longest_gap:.2f} s;"
            f" {measured.processes} processes; the sampler took {measured.sampler_cpu_share:.2%} of a core",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory.sample",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--interval", type=seconds, default=0.5, metavar="S", help="seconds between samples (default 0.5)")
    add("--json", type=Path, metavar="FILE", help="write peaks, series and environment there")
    add("--plot", type=Path, metavar="FILE.png", help="draw the stages, stacked, over time")
    add("--label", type=_label, action="append", default=[], metavar="STAGE=REGEX",
        help="processes whose command line or name matches are of that stage (repeatable)")  # fmt: skip
    add("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    return parser


def seconds(text: str) -> float:
    """A number of seconds above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _label(text: str) -> tuple[str, re.Pattern[str]]:
    try:
        return parse_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _say(text: str, code: int) -> int:
    print(f"sample: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
