"""Is a fast device kept busy, and how many cores does that take?

Files through the whole engine into LanceDB, with the model on a device of its own: by default a stand-in for
one, of 500,000 tokens/s, that reads the ids of a real tokenizer, so that all that feeds it is real. On a
machine with a GPU: --device cuda --text-model FOLDER. Core-seconds are what the processes have spent, whether
or not there are cores enough here to keep the device busy; those of a stand-in make its vectors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import BenchError, summary_of
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome
from benchmarks.speed.cases import parse
from engine.models.resolve import DEFAULT_TEXT_MODEL
from engine.runtime.report.summary import Summary

#: End to end ÷ what the device does alone.
GOAL = 0.95

#: Tokens/s of the device that is simulated, and dimensions as MiniLM-L6 has them.
STAND_IN = "stand-in:384@500000"

KINDS = ("text", "HTML", "PDF")

#: The processes by the names that a summary has for their stages.
STAGES = {"parse": "parsers", "infer": "inference", "index": "indexer", "supervise": "supervisor"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--text-model", default=STAND_IN, metavar="NAME", help="(default %(default)s)")
    add("--tokenizer", default=DEFAULT_TEXT_MODEL, metavar="NAME",
        help="the model whose tokens a stand-in reads (default %(default)s)")  # fmt: skip
    add("--device", default="auto", help="as engine.run has it (default %(default)s)")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N",
        help="most parsers (default: cores, %(default)s here)")  # fmt: skip
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND",
        help="text, HTML, PDF (default: all)")  # fmt: skip
    add("--corpus", type=Path, metavar="DIR", help="run over the files there as they are, instead")
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")
    add("--megabytes", type=float, default=20.0, metavar="MB", help="of each kind (default 20)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    devices = set()
    corpora = [(args.corpus.name, args.corpus)] if args.corpus else _corpora(args, work)
    for kind, corpus in corpora:
        summary = _run(args, corpus, work / f"run-{kind}")
        devices.add(str(summary.speed_of_light.device))
        _tell(kind, summary, outcome)
    if not any(device.startswith("cuda") for device in devices):
        outcome.said.append(f"this has not been run on a GPU: the device is {args.text_model}")
    return outcome


def _tell(kind: str, summary: Summary, outcome: Outcome) -> None:
    """What one run has shown: a row, and its figure."""
    speed, tokens = summary.speed_of_light, summary.tokens
    alone, reached = speed.forward_only, speed.end_to_end
    if alone is None or reached is None:
        raise BenchError(f"{kind}: {speed.advice}; give more --megabytes")
    spent = {name: summary.stage(name).cpu_s for name in STAGES}
    # What the database does once, at the end, feeds no device.
    spent["index"] -= summary.stage("index").call("publish").cpu_s
    each = {name: 1e6 * seconds / tokens for name, seconds in spent.items()}
    needed = sum(each.values()) * alone / 1e6
    outcome.rows.append(
        {
            "files": kind,
            "tokens": f"{tokens:,}",
            "device alone, tokens/s": f"{alone:,.0f}",
            "end to end": f"{reached:,.0f}",
            "÷": f"{reached / alone:.3f}",
            "tokens/s a core of parsing": f"{tokens / summary.stage('parse').cpu_s:,.0f}",
            **{f"{STAGES[name]}, core s/M tokens": f"{seconds:.2f}" for name, seconds in each.items()},
            "cores to feed it": f"{needed:.1f}",
        }
    )
    what = f"end to end ÷ device alone, {kind}"
    if needed <= speed.cores:
        outcome.goal(what, reached / alone, GOAL)
    else:
        have = f"{speed.cores:g} cores, where {needed:.1f} are needed"
        outcome.said.append(f"{what}: {reached / alone:.2f} with {have}")
    outcome.said.append(f"  {speed.advice}")


def _run(args: argparse.Namespace, corpus: Path, folder: Path) -> Summary:
    """The summary of a run over the corpus."""
    shutil.rmtree(folder, ignore_errors=True)
    stand_in = args.text_model.startswith("stand-in:")
    command = [sys.executable, "-m"]
    command += ["benchmarks.speed.tokenizer", args.tokenizer] if stand_in else ["engine.run", "--calibrate"]
    command += [str(corpus), "--run-dir", str(folder / "run"), "--adapter", f"lancedb://{folder}/db"]
    command += ["--quiet", "--no-images", "--no-dedupe", "--text-model", args.text_model]
    command += ["--workers", str(args.workers), "--device", args.device]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"engine.run ended with {done.returncode}: {done.stderr[-600:]}")
    shutil.rmtree(folder / "db")
    return summary_of(folder / "run")


def _corpora(args: argparse.Namespace, work: Path) -> list[tuple[str, Path]]:
    return [(kind, _corpus(kind, args, work)) for kind in args.kinds]


def _corpus(kind: str, args: argparse.Namespace, work: Path) -> Path:
    """A folder of `--megabytes` of this kind, the same files again and again where there are not enough."""
    packages = args.packages or work / "packages"
    if kind == "PDF":
        files = _once(debian.files(debian.unpacked(packages, debian.MANUALS), ".pdf"))
    else:
        files = parse.corpora(debian.unpacked(packages, debian.DOCUMENTS), work / "corpora", 2e6)[kind]
    folder = work / f"corpus-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    left, number = args.megabytes * 1e6, 0
    while left > 0:
        source = files[number % len(files)]
        shutil.copyfile(source, folder / f"{number}{source.suffix}")
        left -= source.stat().st_size
        number += 1
    return folder


def _once(files: Sequence[Path]) -> list[Path]:
    """Of files of one size the first; a package has some twice."""
    return list({path.stat().st_size: path for path in reversed(files)}.values())
