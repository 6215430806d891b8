"""What does each process spend its time on, at full load?

py-spy samples every process of a run at once: of real text with the best backend that this machine has, and
of ready chunks with a stand-in at no cost, in large segments and in small ones. Self time by Python function,
what libraries do on its behalf included, as a share of the process's CPU seconds: the kernel tells those of
each thread, and the thread's samples how they are dealt out. A thread that waits for its turn on a busy
machine may be sampled where it waits. Threads without Python are LanceDB's and ONNX Runtime's.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.command import BenchError
from benchmarks.memory.stages import ENGINE_SCORES
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome
from benchmarks.speed.cases.parse import corpora
from engine.models.resolve import DEFAULT_TEXT_MODEL

#: Costs that are named of each process, and what stands for threads that were never seen in Python.
COSTS, LIBRARIES = 3, "threads of libraries"

#: How a stack begins in py-spy's raw format.
THREAD = re.compile(r"thread \((\d+)\)")

#: Samples a second, seconds that a run has to get going, and after which it must have.
RATE, WARM_UP_S, PATIENCE_S = 97, 3.0, 180.0

RUNS = ("text", "ready", "small")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="RUN",
        help="text; ready, small: chunks in segments of 224 and of 4 (default: all)")  # fmt: skip
    add("--seconds", type=int, default=10, metavar="S", help="of sampling (default 10)")
    add("--text-model", default=DEFAULT_TEXT_MODEL, metavar="NAME", help="(default %(default)s)")
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    spy = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if spy is None:
        raise BenchError("py-spy is needed: pip install 'vector-streaming-engine[bench]'")
    outcome = Outcome()
    for name in args.runs:
        folder = work / f"profile-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = _text(args, work, folder) if name == "text" else _ready(name, folder)
        found = _profiled(command, spy, args.seconds, folder)
        for stage, (cores, costs) in found.items():
            row = {"run": name, "process": stage, "cores": f"{cores:.2f}"}
            outcome.rows.append(row | {f"cost {i + 1}": cost for i, cost in enumerate(costs)})
        shutil.rmtree(folder)
    return outcome


def _text(args: argparse.Namespace, work: Path, folder: Path) -> list[str]:
    """The command of a run over more text than is embedded meanwhile."""
    unpacked = debian.unpacked(args.packages or work / "packages", debian.DOCUMENTS)
    (text,) = corpora(unpacked, work / "corpora", 2e6)["text"]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(20):
        shutil.copyfile(text, corpus / f"{number}.txt")
    return ["engine.run", *_options(corpus, folder), "--no-dedupe", "--text-model", args.text_model]


def _ready(name: str, folder: Path) -> list[str]:
    """The command of a run of ready chunks, more than pass meanwhile."""
    corpus = folder / "corpus"
    corpus.mkdir()
    segment, files, each = (224, 64, 100_000) if name == "ready" else (4, 40_000, 60)
    for number in range(files):
        (corpus / f"{number}.txt").write_text(str(each), encoding="ascii")
    figures = str(folder / "figures.json")
    options = [*_options(corpus, folder), "--text-model", "stand-in:384", "--workers", "1"]
    return ["benchmarks.speed.ready", figures, str(segment), "--", *options]


def _options(corpus: Path, folder: Path) -> list[str]:
    run_dir, database = str(folder / "run"), f"lancedb://{folder}/db"
    return [str(corpus), "--run-dir", run_dir, "--adapter", database, "--quiet"]


def _profiled(
    command: Sequence[str], spy: str, seconds: int, folder: Path
) -> dict[str, tuple[float, list[str]]]:
    """Cores and largest costs of each process of a run, by stage; the run is ended when they are known."""
    with (
        (folder / "stderr").open("wb") as stderr,
        psutil.Popen([sys.executable, "-m", *command], stderr=stderr) as process,
    ):
        try:
            stages = _at_work(process, folder)
            before = {stage: _spent(each) for stage, each in stages.items()}
            began = time.monotonic()
            spies = {
                stage: subprocess.Popen(
                    [spy, "record", "--pid", str(each.pid), "--duration", str(seconds), "--rate", str(RATE),
                     "--format", "raw", "--function", "--threads", "--nonblocking",
                     "--output", str(folder / stage)],
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                )
                for stage, each in stages.items()
            }  # fmt: skip
            told = {stage: each.communicate()[1] for stage, each in spies.items()}
            passed = time.monotonic() - began
            if process.poll() is not None:
                raise BenchError(f"the run ended with {process.returncode} before it was profiled")
            after = {stage: _spent(each) for stage, each in stages.items()}
        finally:
            process.kill()  # its children end with it
    found = {}
    for stage in stages:
        if not (folder / stage).exists():
            raise BenchError(f"py-spy, {stage}: {told[stage].strip()[-300:]}")
        spent = {each: after[stage][each] - before[stage].get(each, 0.0) for each in after[stage]}
        stacks = (folder / stage).read_text(encoding="utf-8")
        found[stage] = sum(spent.values()) / passed, largest(stacks, spent)
    return found


def largest(stacks: str, spent: Mapping[int, float]) -> list[str]:
    """The largest costs: innermost functions, each with its share of the seconds that threads have `spent`,
    by their ids. `stacks` is py-spy's raw format with threads: a stack and its samples a line."""
    seen: dict[int, Counter[str]] = defaultdict(Counter)
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, _, frames = stack.partition(";")
        if match := THREAD.match(thread):
            seen[int(match[1])][frames.rpartition(";")[2] or LIBRARIES] += int(count)
    costs: dict[str, float] = defaultdict(float)
    for number, seconds in spent.items():
        samples = seen.get(number, Counter({LIBRARIES: 1}))
        for name, own in samples.items():
            costs[name] += seconds * own / samples.total()
    total = sum(spent.values()) or 1.0
    largest_first = sorted(costs, key=lambda name: costs[name], reverse=True)
    return [f"{name} {100 * costs[name] / total:.0f} %" for name in largest_first[:COSTS]]


def _at_work(process: psutil.Popen, folder: Path) -> dict[str, psutil.Process]:
    """The run's processes by stage, once records are written and all have got going."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(
                f"the run ended with {process.returncode}: {(folder / 'stderr').read_text()[-600:]}"
            )
        stages = {"supervisor": psutil.Process(process.pid)}
        for child in process.children():
            score = int(Path(f"/proc/{child.pid}/oom_score_adj").read_text(encoding="ascii"))
            if score in ENGINE_SCORES:
                stages[ENGINE_SCORES[score]] = child
        # The indexer works last of all.
        if len(stages) == 1 + len(ENGINE_SCORES) and any((folder / "db").rglob("*.lance/data/*")):
            time.sleep(WARM_UP_S)
            return stages
        time.sleep(0.2)
    raise BenchError(f"the run did not get going within {PATIENCE_S:g} s")


def _spent(process: psutil.Process) -> dict[int, float]:
    """CPU seconds of each of its threads."""
    return {each.id: each.user_time + each.system_time for each in process.threads()}
