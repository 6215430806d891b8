"""Single files larger than memory should be: how far does the peak rise over that of a tiny file of its kind?

The fixed cost is the peak of a run over one small file of the kind, with the same libraries. What is above it
may be at most `--buffer` and one parser's limit. A file that is refused must be refused with a named limit,
which the table shows; it then counts as much as any other.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from benchmarks.memory import figures
from benchmarks.memory.bench import STAND_INS, UNITS, Bench, Outcome, byte_size, size

#: Suffix of each kind, and the size of the small file that gives the fixed cost.
KINDS = {
    "text": (".txt", 1000),
    "html": (".html", 1000),
    "markdown": (".md", 1000),
    "pdf": (".pdf", 1),
    "jpeg": (".jpg", 0.1),
    "png": (".png", 0.1),
    "tiff": (".tiff", 1),
}

#: The issue's files: bytes, pages, megapixels, frames.
DEFAULT = ["text:5G", "html:1G", "markdown:1G", "pdf:5000", "pdf:100K", "jpeg:300", "png:300", "tiff:500"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--files", type=_file, nargs="+", default=[_file(each) for each in DEFAULT], metavar="KIND:SIZE",
        help=f"of {', '.join(KINDS)}; bytes, pages, megapixels or frames (default {' '.join(DEFAULT)})",
    )  # fmt: skip
    add("--buffer", default="64MiB", help="the engine's --buffer (default 64MiB)")
    add("--parser-memory", default="1GiB", help="the engine's --parser-memory (default 1GiB)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    options = (*STAND_INS, "--buffer", args.buffer, "--parser-memory", args.parser_memory, "--workers", "1")
    allowed = byte_size(args.buffer) + byte_size(args.parser_memory)
    fixed: dict[str, int] = {}
    for kind, amount in args.files:
        suffix, small = KINDS[kind]
        if kind not in fixed:
            path = bench.corpus(kind, f"small{suffix}", small)
            done = bench.run(f"small {kind}", [path], *options)
            outcome.add(f"small {kind}", done, over="", failed=_failed(done.failures))
            fixed[kind] = done.peak
        name = f"{kind} {_short(amount)}"
        path = bench.corpus(kind, f"{name.replace(' ', '-')}{suffix}", amount)
        done = bench.run(name, [path], *options)
        over = done.peak - fixed[kind]
        outcome.add(name, done, over=figures.megabytes(over), failed=_failed(done.failures))
        outcome.goal(f"{name}: MB over the fixed cost", over / 1e6, allowed / 1e6, ",.1f")
        if path.stat().st_size > UNITS["G"]:
            path.unlink()
    return outcome


def _failed(failures: Sequence[Mapping[str, object]]) -> str:
    return f"{failures[0]['error_type']}: {failures[0]['message']}" if failures else ""


def _short(amount: float) -> str:
    for unit in ("G", "M", "K"):
        if amount >= UNITS[unit] and amount % UNITS[unit] == 0:
            return f"{amount / UNITS[unit]:g}{unit}"
    return f"{amount:g}"


def _file(text: str) -> tuple[str, float]:
    kind, _, amount = text.partition(":")
    if kind not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r}: the kinds are {', '.join(KINDS)}, as in text:5G")
    return kind, size(amount)
