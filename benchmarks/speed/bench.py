"""What every case of the speed benchmark shares: options, figures with their goals, the report at the end."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.memory import figures


@dataclass
class Outcome:
    """What a case found: rows of a table, sentences with figure and goal, and the figures to be drawn."""

    rows: list[dict[str, object]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    bars: dict[str, tuple[float, float | None]] = field(default_factory=dict)

    def goal(self, what: str, value: float, least: float, form: str = ",.2f") -> None:
        """A figure that should be at least so much."""
        verdict = "met" if value >= least else "MISSED"
        self.said.append(f"{what}: {value:{form}} (goal: at least {least:{form}}, {verdict})")
        self.bars[what] = value, least


@dataclass(frozen=True)
class Timed:
    """Rounds of one piece of work: seconds of this process's CPU, and of the clock."""

    cpu: list[float]
    wall: list[float]

    @property
    def median(self) -> float:
        """CPU seconds, which other work on the machine disturbs less."""
        return statistics.median(self.cpu)


def interleaved(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timed]:
    """Each work once to warm up, then so many rounds of each once, one after another."""
    timed = {name: Timed([], []) for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            if number:
                timed[name].cpu.append(time.process_time() - cpu)
                timed[name].wall.append(time.perf_counter() - wall)
    return timed


def spread(values: list[float], form: str = ",.0f") -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def common_options(parser: argparse.ArgumentParser) -> None:
    """The options of every case."""
    add = parser.add_argument
    add("--rounds", type=int, default=5, metavar="N", help="interleaved rounds (default 5)")
    add("--work", type=Path, metavar="DIR", help="corpora and runs; kept (default: a temporary one)")
    add("--json", type=Path, metavar="FILE", help="write table, figures and environment there")
    add("--plot", type=Path, metavar="FILE.png", help="draw the figures beside their goals")


def report(args: argparse.Namespace, outcome: Outcome) -> None:
    """Print the table and the figures; write JSON and plot where they were asked for."""
    print(figures.table(outcome.rows))
    print(*outcome.said, sep="\n")
    load = os.getloadavg()
    print(f"load average at the end: {load[0]:.1f} on {os.cpu_count()} cores")
    if args.json:
        options = {name: str(value) for name, value in vars(args).items()}
        content = {"options": options, "table": outcome.rows, "figures": outcome.said, "load_average": load}
        figures.write_json(args.json, content)
    if args.plot:
        plot(args.plot, outcome)


def plot(path: Path, outcome: Outcome) -> None:
    """A PNG with a bar for each figure, as a share of its goal."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = {name: (value, least) for name, (value, least) in outcome.bars.items() if least}
    figure, axis = pyplot.subplots(figsize=(9, 1.2 + 0.5 * len(bars)))
    axis.barh(list(bars), [value / least for value, least in bars.values()])
    axis.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    axis.invert_yaxis()
    axis.set_xlabel("÷ goal")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
