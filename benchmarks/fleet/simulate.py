"""How near does a fleet come to the ideal, when files are uneven, tasks too, and both fail?

A thousand tasks over ten million files, with sizes, speeds, preemptions and failures drawn from a seed, and
time simulated: static shards by the hash of the path, shards of equal estimated work, and leases. The cutting
and the leases are the engine's own code; only the clock and the shared folder are made for it, and the folder
counts what a file server would be asked. The work of a file differs from its estimate, as it does in life.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fleet.strategies import Fleet, Outcome, cut_shards, hash_shards, static
from benchmarks.fleet.world import MOST, WORK_SIGMA, World, make_world
from benchmarks.memory import figures
from engine.fleet.shards import Survey, cut


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the simulation."""
    add = parser.add_argument
    add("--files", type=int, default=10_000_000, help="files of the corpus (default 10,000,000)")
    add("--tasks", type=int, default=1000, help="tasks (default 1,000)")
    add("--hours", type=float, default=4.0, help="about how long the whole takes, simulated (default 4)")
    add("--ttl", type=float, default=120.0, help="seconds of silence after which a lease runs out")
    add("--largest", type=float, default=MOST, help="bytes of the largest file (default 100e6)")
    add("--sigma", type=float, default=WORK_SIGMA, help="how far work is off its estimate (default 0.2)")
    add("--seed", type=int, default=1, help="of everything that is drawn (default 1)")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    add("--plot", type=Path, metavar="FILE", help="draw them, as PNG")


def run(args: argparse.Namespace) -> None:
    """Simulate, and print the table."""
    figures.check_plot(args.plot)
    began = time.process_time()
    world = make_world(args.files, args.tasks, args.hours, args.seed, args.largest, args.sigma)
    outcomes = simulate(world, args.ttl, args.seed)
    ideal = world.ideal()
    rows = [_row(outcome, ideal, world) for outcome in outcomes]
    print(figures.table(rows))
    print(
        f"\n{args.files:,} files, {args.tasks:,} tasks, seed {args.seed}: ideal {ideal / 3600:.2f} h;"
        f" {outcomes[-1].takeovers:,} takeovers of leases; simulated in"
        f" {time.process_time() - began:.0f} s of one core"
    )
    if args.json:
        content = {
            name: getattr(args, name)
            for name in ("files", "tasks", "hours", "ttl", "largest", "sigma", "seed")
        }
        operations = dict(outcomes[-1].operations)
        figures.write_json(args.json, {**content, "ideal_s": ideal, "rows": rows, "operations": operations})
    if args.plot:
        _plot(args.plot, outcomes, ideal)


def simulate(world: World, ttl: float, seed: int) -> list[Outcome]:
    """Every strategy in the same world; leases last."""
    survey = Survey(len(world.speeds))
    for block in world.blocks():
        survey.add(block)
    heavy, shards, leases = cut(world.blocks(), survey)
    return [
        static("hash shards", world, hash_shards(world)),
        static("balanced shards", world, cut_shards(world, heavy, shards)),
        Fleet(world, heavy, leases, ttl, seed).run(),
    ]


def _row(outcome: Outcome, ideal: float, world: World) -> dict[str, object]:
    minutes: Counter[int] = Counter()
    for second, requests in outcome.requests.items():
        minutes[second // 60] += requests
    busiest = max(minutes.values(), default=0) / 60
    return {
        "strategy": outcome.name,
        "makespan ÷ ideal": f"{outcome.seconds / ideal:.3f}",
        "done twice, %": f"{100 * outcome.twice / float(world.actual.sum()):.3f}",
        "requests/s, mean": f"{sum(outcome.requests.values()) / outcome.seconds:.0f}",
        "busiest minute": f"{busiest:.0f}",
        "busiest second": f"{max(outcome.requests.values(), default=0):,}",
    }


def _plot(path: Path, outcomes: Sequence[Outcome], ideal: float) -> None:
    """The share of tasks that have not done their last work, over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 3.6))
    for outcome in outcomes:
        ends = sorted(outcome.ends)
        current_item = [100 * (1 - i / len(ends)) for i in range(len(ends))]
        axis.step([end / ideal for end in ends], current_item, where="post", label=outcome.name)
    axis.axvline(1.0, color="black", linewidth=0.6, linestyle=":")
    axis.set_xlabel("time ÷ ideal")
    axis.set_ylabel("tasks at work, %")
    axis.set_xlim(left=0)
    axis.legend(loc="lower left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
