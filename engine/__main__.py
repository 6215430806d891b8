"""`python -m engine COMMAND`, also installed as `vse COMMAND`: every command under one name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import engine
from engine.cli.exits import run_and_exit
from engine.cli.terminal import say
from engine.errors import EXIT_DONE, EXIT_USAGE

#: The module of each command, and what it does.
COMMANDS = {
    "run": ("engine.run", "parse, embed and index a corpus"),
    "search": ("engine.search", "find texts and pictures by meaning"),
    "status": ("engine.status", "tell where a run stands"),
    "report": ("engine.report.__main__", "write an HTML page of a run"),
    "verify": ("engine.verify", "prove that nothing is missing, or mend what is"),
    "plan": ("engine.plan", "estimate time, memory and index of a corpus"),
    "merge": ("engine.merge", "end what several tasks have begun"),
    "models": ("engine.models.__main__", "copy models into folders, for machines without a network"),
    "slurm": ("engine.slurm.__main__", "run a fleet on a cluster"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command that is named first; returns its exit code."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv), ""]
    if name == "--version":
        print(engine.__version__)
        return EXIT_DONE
    if name in ("", "-h", "--help"):
        print("usage: vse COMMAND ...\n\ncommands (each with --help):")
        for command, (_, what) in COMMANDS.items():
            print(f"  {command:8} {what}")
        return EXIT_DONE if name else EXIT_USAGE
    if name not in COMMANDS:
        say(name, f"unknown command; accepted are {', '.join(COMMANDS)}")
        return EXIT_USAGE
    return int(importlib.import_module(COMMANDS[name][0]).main(rest[:-1]))


def console() -> None:
    """The console script `vse`."""
    run_and_exit(main)


if __name__ == "__main__":
    console()
