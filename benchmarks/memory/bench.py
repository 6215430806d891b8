"""What every case shares: options, the work folder, measured runs of the engine, the report at the end."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import BenchError
from benchmarks.memory import figures
from benchmarks.memory.sample import seconds
from benchmarks.memory.sampler import Measurement, measure
from benchmarks.memory.stages import Stages
from engine.runtime.report.summary import Summary, read_summary

#: Stand-ins of the sizes of MiniLM-L6 and ViT-B/32: no model's speed nor its memory hides what the rest does.
STAND_INS = ("--text-model", "stand-in:384", "--image-model", "stand-in:512")

#: The demonstration's corpus.
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "corpus"

#: Exit codes of a run that is over: everything indexed, or finished with failures that it names.
FINISHED = (0, 3)

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True)
class Run:
    """One measured run of the engine with its `summary.json` (empty: it wrote none) and its last words."""

    measured: Measurement
    summary: Summary
    failures: list[Mapping[str, Any]]
    folder: Path
    told: str

    @property
    def peak(self) -> int:
        """The highest sum over all processes, in bytes."""
        return self.measured.peaks["total"]

    def row(self, name: str) -> dict[str, object]:
        """A line of a table: records, peaks in MB by stage, the most bytes in flight, exit code, seconds."""
        peaks = self.measured.peaks
        stages = ("total", "supervisor", "parsers", "inference", "indexer")
        return {
            "case": name,
            "records": f"{self.summary.totals.records:,}",
            **{stage: figures.megabytes(peaks.get(stage, 0)) for stage in stages},
            "in flight": figures.megabytes(self.summary.peak_in_flight_bytes),
            "exit": self.measured.exit_code,
            "s": f"{self.measured.seconds:.1f}",
        }


@dataclass
class Outcome:
    """What a case found: tables in MB, the measurements behind them, sentences with the figure and goal."""

    rows: list[dict[str, object]] = field(default_factory=list)
    panels: dict[str, Measurement] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def add(self, name: str, run: Run, **more: object) -> None:
        """One more run; its line is printed at once, since the next may take long."""
        self.rows.append({**run.row(name), **more})
        self.panels[name] = run.measured
        print(figures.table(self.rows[-1:]), file=sys.stderr, flush=True)

    def goal(self, what: str, value: float, most: float, form: str = ".3f") -> None:
        """A figure and whether it reaches its goal."""
        verdict = "met" if value <= most else "MISSED"
        self.said.append(f"{what}: {value:{form}} (goal: at most {most:{form}}, {verdict})")


class Bench:
    """The work folder and the options that all cases have."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.work = work
        self.interval: float = args.interval
        self._keep_runs: bool = args.keep

    def corpus(self, kind: str, name: str, *sizes: float) -> Path:
        """A corpus or file of that name in the work folder; one that is there is used again."""
        return make(kind, self.work / "corpora" / name, *sizes)

    def run(
        self,
        name: str,
        inputs: Sequence[Path],
        *options: str,
        adapter: str | None = None,
        while_running: Callable[[subprocess.Popen[bytes], Path], None] | None = None,
        accept: Sequence[int] = FINISHED,
        count_files: bool = False,
    ) -> Run:
        """Run the engine over the inputs into a new LanceDB, or `adapter`, and measure it.

        With `count_files` the series' progress is the number of files done. Raises `BenchError` where it ends
        with another exit code than those of `accept`.
        """
        folder = self.work / "runs" / name.replace(" ", "-").replace("/", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_dir, stderr = folder / "run", folder / "stderr.txt"
        command = [sys.executable, "-m", "engine.run", *map(str, inputs), "--run-dir", str(run_dir)]
        command += ["--adapter", adapter or f"lancedb://{folder.absolute()}/db", "--quiet", *options]
        hook = None if while_running is None else lambda process: while_running(process, run_dir)
        progress = (lambda: files_done(run_dir)) if count_files else None
        measured = measure(command, Stages(), self.interval, progress, hook, stderr=stderr)
        told = stderr.read_text(encoding="utf-8", errors="replace").strip()
        if measured.exit_code not in accept:
            raise BenchError(f"{name}: engine.run ended with {measured.exit_code}: {told[-600:]}")
        failures = run_dir / "failures.jsonl"
        run = Run(
            measured,
            read_summary(run_dir) or Summary(),
            [json.loads(line) for line in failures.read_text().splitlines()] if failures.exists() else [],
            run_dir,
            told,
        )
        if not self._keep_runs:
            shutil.rmtree(folder / "db", ignore_errors=True)
        return run


def status_of(run_dir: Path) -> dict[str, Any]:
    """`status.json`, {} while there is none."""
    try:
        found: dict[str, Any] = json.loads((run_dir / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def files_done(run_dir: Path) -> float:
    """How many files the run has brought to an end, as its status says each second."""
    files = status_of(run_dir).get("files", {})
    return float(files.get("discovered", 0) - files.get("pending", 0))


def make(kind: str, path: Path, *sizes: float) -> Path:
    """A corpus or file of `corpora`, made by another process: its libraries must not be mapped here."""
    command = [sys.executable, "-m", "benchmarks.memory.corpora", kind, str(path), *map(str, sizes)]
    subprocess.run(command, check=True)
    return path


def byte_size(text: str) -> int:
    """`16MiB` or a number of bytes, as the engine reads it. Raises `BenchError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if not found:
        raise BenchError(f"{text!r} is not a size such as 16MiB")
    return int(float(found[1]) * 2 ** (10 * " KMG".index(found[2].upper() or " ")))


def size(text: str) -> float:
    """`5G`, `16M` or a number; powers of ten. For argparse."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    try:
        return float(text[: len(text) - len(unit)]) * UNITS[unit]
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 5G, 200M or 4096") from None


def common_options(parser: argparse.ArgumentParser) -> None:
    """The options of every case."""
    add = parser.add_argument
    add("--work", type=Path, metavar="DIR", help="corpora, run directories; kept (default: a temporary one)")
    add("--interval", type=seconds, default=0.25, metavar="S", help="between samples (default 0.25)")
    add("--keep", action="store_true", help="keep the LanceDB of each run, too")
    add("--json", type=Path, metavar="FILE", help="write table, series and environment there")
    add("--plot", type=Path, metavar="FILE.png", help="draw the stages of each run, stacked, over time")


def report(args: argparse.Namespace, outcome: Outcome) -> None:
    """Print the table and the figures; write JSON and plot where they were asked for."""
    print(figures.table(outcome.rows))
    print(*outcome.said, sep="\n")
    shares = [measured.sampler_cpu_share for measured in outcome.panels.values()]
    if shares:
        print(f"MB are 10^6 bytes of {next(iter(outcome.panels.values())).unit.upper()}; "
              f"the sampler took at most {max(shares):.1%} of a core")  # fmt: skip
    if args.json:
        runs = {name: measured.as_dict() for name, measured in outcome.panels.items()}
        options = {name: str(value) for name, value in vars(args).items() if name != "case_module"}
        content = {"options": options, "table": outcome.rows, "figures": outcome.said, "runs": runs}
        figures.write_json(args.json, {**content, "load_average": os.getloadavg()})
    if args.plot and outcome.panels:
        figures.plot(args.plot, outcome.panels)
