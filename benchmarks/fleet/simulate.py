"""How near does a fleet come to the ideal, when files are uneven, nodes too, and both fail?

A thousand nodes over ten million files, with sizes, speeds, preemptions and failures drawn from a seed, and
time simulated: shards by the hash of the path, one for each node or several times finer, in the order of
their numbers or with the heaviest first, as `engine.slurm` begins them. The work of a file differs from its
estimate, as it does in life.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.fleet.array import Outcome, run_array
from benchmarks.fleet.world import MOST, WORK_SIGMA, World, make_world
from benchmarks.memory import figures
from engine.fleet.shards import heaviest_first
from engine.sources.base import shard_of

#: Seconds that a task takes to start and to end, besides its files: 7 were measured with one file (MiniLM,
#: LanceDB, two cores); the rest is SLURM's, and a model's that is read from a file server.
START_S = 10.0

#: How many times more shards than nodes.
TIMES = (1, 8, 16, 32)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the simulation."""
    add = parser.add_argument
    add("--files", type=int, default=10_000_000, help="files of the corpus (default 10,000,000)")
    add("--tasks", type=int, default=1000, help="nodes, each with one task at once (default 1,000)")
    add("--hours", type=float, default=4.0, help="about how long the whole takes, simulated (default 4)")
    add("--start", type=float, default=START_S, help="seconds that each start of a task costs (default 10)")
    add("--times", type=int, nargs="+", default=TIMES, help="times more shards (default 1 8 16 32)")
    add("--largest", type=float, default=MOST, help="bytes of the largest file (default 100e6)")
    add("--sigma", type=float, default=WORK_SIGMA, help="how far work is off its estimate (default 0.2)")
    add("--seed", type=int, default=1, help="of everything that is drawn (default 1)")
    add("--json", type=Path, metavar="FILE", help="write the figures")


def run(args: argparse.Namespace) -> None:
    """Simulate, and print the table."""
    began = time.process_time()
    world = make_world(args.files, args.tasks, args.hours, args.seed, args.largest, args.sigma)
    ideal = world.ideal()
    rows = [_row(outcome, ideal, world) for outcome in simulate(world, args.times, args.start)]
    print(figures.table(rows))
    print(
        f"\n{args.files:,} files, {args.tasks:,} nodes, seed {args.seed}: ideal {ideal / 3600:.2f} h;"
        f" simulated in {time.process_time() - began:.0f} s of one core"
    )
    if args.json:
        names = ("files", "tasks", "hours", "start", "times", "largest", "sigma", "seed")
        options = {name: getattr(args, name) for name in names}
        figures.write_json(args.json, {**options, "ideal_s": ideal, "rows": rows})


def simulate(world: World, times: Sequence[int], start_s: float) -> Iterator[Outcome]:
    """Every way of sharing out in the same world."""
    nodes, count = len(world.speeds), len(world.actual)
    # For all numbers of shards at once: the hash is taken modulo each of them.
    common = nodes * math.lcm(*times)
    paths = (f"/corpus/{i // 1000}/{i}" for i in range(count))
    hashes = np.fromiter((shard_of(path, common) for path in paths), np.int64, count)
    for each in times:
        shards = hashes % (nodes * each)
        work, estimated = (
            np.bincount(shards, weights=weights, minlength=nodes * each).astype(np.float64)
            for weights in (world.actual, world.estimated)
        )
        name = f"{each} × as many shards"
        yield run_array(name, world, work, range(len(work)), start_s)
        yield run_array(f"{name}, heaviest first", world, work, heaviest_first(estimated.tolist()), start_s)


def _row(outcome: Outcome, ideal: float, world: World) -> dict[str, object]:
    return {
        "strategy": outcome.name,
        "makespan ÷ ideal": f"{outcome.seconds / ideal:.3f}",
        "starts": f"{outcome.starts:,}",
        "done twice, %": f"{100 * outcome.twice / float(world.actual.sum()):.3f}",
    }
