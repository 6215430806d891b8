"""Command lines: a parser whose mistakes are errors of one line, and how the values of options are read."""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import NoReturn

import engine
from engine.config import SIZE_LIMIT
from engine.errors import UsageError

#: Columns of a help text up to the options' meanings; longer names have the meaning on the next line.
HELP_COLUMNS = 30

#: Units of a byte size; a bare number is bytes, `K`, `M`, `G`, `T` and `KB` … are binary as well.
BYTE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class CommandParser(argparse.ArgumentParser):
    """A parser whose mistakes are `UsageError`s, as every other mistake of a user is."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)")


def command_parser(
    command: str, description: str, examples: Mapping[str, str] | None = None, usage: str = ""
) -> CommandParser:
    """A parser for `python -m engine.COMMAND`, with `--help` and `--version` alone.

    `examples`: what stands behind the command's name, and what it does. `usage`: the same in short, for a
    command with many options.
    """
    name = f"python -m engine.{command}"
    shown = "".join(
        f"\n  {f'{name} {arguments}'.strip()}\n      {what}\n" for arguments, what in (examples or {}).items()
    )
    parser = CommandParser(
        prog=name,
        usage=f"{name} {usage}" if usage else None,
        description=description,
        epilog=f"examples:{shown}" if shown else None,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=engine.__version__, help="print the version")
    return parser


class _HelpFormatter(argparse.HelpFormatter):
    """What has several lines stays as it is; no word is cut at a hyphen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=HELP_COLUMNS)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else textwrap.fill(text, width, break_on_hyphens=False)


def parse_bytes(text: str) -> int:
    """`256MiB`, `1.5G` or `4096` in bytes. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(text)
    size = float(match[1]) * BYTE_UNITS[match[2].upper()]
    if size >= SIZE_LIMIT:
        raise ValueError(text)
    return int(size)


def short_bytes(size: int) -> str:
    """A size as `parse_bytes` reads it, in the largest binary unit that it is a whole number of."""
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % 2**power == 0:
            return f"{size >> power}{unit}"
    return str(size)


def count(least: int) -> Callable[[str], int]:
    """For `argparse`: a whole number of at least that."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return convert


def size(least: int, least_bare: int = 0) -> Callable[[str], int]:
    """For `argparse`: bytes, at least that many; and at least `least_bare` of them for a number without a
    unit, whose author may have meant another one."""

    def convert(text: str) -> int:
        try:
            found = parse_bytes(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256MiB or 8GiB") from None
        if 0 < found < least_bare and text.strip().isdigit():
            meant = f"{found}GiB" if found < 64 else f"{found}MiB"
            raise argparse.ArgumentTypeError(f"{text!r} is {found} bytes; sizes take a unit, such as {meant}")
        if found < least:
            enough = short_bytes(least) if least > 1 else "1 byte"
            raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least {enough}")
        return found

    return convert


def seconds(text: str) -> float:
    """For `argparse`: a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value
