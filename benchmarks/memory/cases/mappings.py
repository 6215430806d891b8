"""What does each process of a run over `examples/corpus` map, and how much of that for itself alone?

Anonymous memory is a process's own: Python's objects, weights, activations, buffers. Pages of libraries are
shared by all processes that have them, so that PSS counts a part of each here. Shown is the one look, of
those taken twice a second, at which all processes together were largest.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.memory import figures
from benchmarks.memory.bench import EXAMPLES, Bench, Outcome
from benchmarks.memory.stages import Stages

#: Seconds between two looks; a look itself takes some milliseconds for each process.
EVERY_S = 0.5

#: Libraries that are named, those with the most bytes first.
NAMED = 5

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.add_argument("--backend", default="auto", metavar="NAME", help="the engine's (default auto)")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    largest: dict[str, Counter[str]] = {}

    def watch(process: subprocess.Popen[bytes], run_dir: Path) -> None:
        nonlocal largest
        while process.poll() is None:
            found = _look(process.pid)
            if _total(found) > _total(largest):
                largest = found
            time.sleep(EVERY_S)

    bench.run("mappings", [EXAMPLES], "--backend", args.backend, while_running=watch)
    together = _total(largest)
    for stage, mapped in largest.items():
        anonymous, shared = mapped.pop("anonymous", 0), mapped.pop("shared memory", 0)
        named = ", ".join(f"{name} {figures.megabytes(size)}" for name, size in mapped.most_common(NAMED))
        outcome.rows.append(
            {
                "process": stage,
                "PSS": figures.megabytes(anonymous + shared + mapped.total()),
                "anonymous": figures.megabytes(anonymous),
                "shared memory": figures.megabytes(shared),
                "files": figures.megabytes(mapped.total()),
                "the largest": named,
            }
        )
    outcome.said.append(f"together: {figures.megabytes(together)} MB")
    return outcome


def _total(found: dict[str, Counter[str]]) -> int:
    return sum(mapped.total() for mapped in found.values())


def _look(root: int) -> dict[str, Counter[str]]:
    """PSS in bytes by stage, and in each by what is mapped; nothing of what is gone meanwhile."""
    stages = Stages()
    found: dict[str, Counter[str]] = {}
    try:
        for process in (top := psutil.Process(root), *top.children(recursive=True)):
            found.setdefault(stages(process), Counter[str]()).update(_mapped(process.pid))
    except (psutil.Error, OSError):
        return {}
    return found


def _mapped(pid: int) -> Counter[str]:
    sizes: Counter[str] = Counter()
    name = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            path = mapping[1]
            if path.startswith(("/memfd:", "/dev/shm", "/dev/zero")):
                name = "shared memory"
            else:
                name = Path(path).name if path.startswith("/") else "anonymous"
        elif line.startswith("Pss:"):
            sizes[name] += int(line.split()[1]) * 1024
    return sizes
