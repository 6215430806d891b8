"""What does importing each library cost, in PSS, in a fresh interpreter?

The interpreter itself is taken off. Anonymous memory is what a process has for itself alone; the rest of the
PSS are pages of files, which several processes that import the same library share. Medians of several
imports, the first of all thrown away: it reads the files from the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from importlib.util import find_spec

from benchmarks.memory import figures
from benchmarks.memory.bench import Bench, Outcome

LIBRARIES = (
    "torch", "sentence_transformers", "open_clip", "transformers", "tokenizers", "onnxruntime", "lancedb",
    "pyarrow", "elasticsearch", "orjson", "pypdfium2", "pdfplumber", "PIL.Image", "trafilatura", "lxml.etree",
    "charset_normalizer", "numpy", "sqlite3", "multiprocessing", "psutil",
)  # fmt: skip

#: Prints bytes of PSS and of anonymous memory, and the seconds of the import.
_PROGRAM = """
import importlib, sys, time
began = time.perf_counter()
if sys.argv[1]:
    importlib.import_module(sys.argv[1])
seconds = time.perf_counter() - began
found = {}
with open("/proc/self/smaps_rollup") as file:
    for line in list(file)[1:]:
        name, value = line.split()[:2]
        found[name] = 1024 * int(value)
print('["pss", %d, %d, %f]' % (found["Pss:"], found["Pss_Anon:"], seconds))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default 3")


def run(args: argparse.Namespace, bench: Bench) -> Outcome:
    """The case."""
    outcome = Outcome()
    bare = _cost("", args.rounds)
    costs = {}
    for name in args.libraries:
        if find_spec(name.partition(".")[0]) is None:
            outcome.said.append(f"{name}: not installed")
        else:
            costs[name] = _cost(name, args.rounds)
    for name, (pss, anonymous, seconds) in sorted(costs.items(), key=lambda item: -item[1][0]):
        outcome.rows.append(
            {
                "library": name,
                "PSS": figures.megabytes(pss - bare[0]),
                "anonymous": figures.megabytes(anonymous - bare[1]),
                "s": f"{seconds:.2f}",
            }
        )
    outcome.said.append(f"the interpreter alone: {figures.megabytes(bare[0])} MB, which is taken off")
    return outcome


def _cost(name: str, rounds: int) -> tuple[float, float, float]:
    """Medians: bytes of PSS, of anonymous memory, seconds."""
    samples = [_once(name) for _ in range(rounds + 1)][1:]
    pss, anonymous, seconds = (statistics.median(column) for column in zip(*samples, strict=True))
    return pss, anonymous, seconds


def _once(name: str) -> tuple[float, float, float]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, name], capture_output=True, text=True, check=True)
    _, pss, anonymous, seconds = json.loads(done.stdout.splitlines()[-1])
    return pss, anonymous, seconds
