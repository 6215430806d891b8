"""The simulated fleet: finer shards, heaviest first, come near the ideal; the same from the same seed."""

from __future__ import annotations

from benchmarks.fleet.simulate import START_S, simulate
from benchmarks.fleet.world import make_world


def test_finer_shards_with_the_heaviest_first_end_near_the_ideal() -> None:
    world = make_world(files=200_000, tasks=20, hours=4.0, seed=5)
    coarse, _, _, fine = simulate(world, (1, 16), START_S)
    assert fine.seconds < 1.15 * world.ideal() < coarse.seconds
    assert fine.starts >= 16 * 20
    assert fine.twice < 0.02 * world.actual.sum()
    again = list(simulate(world, (1, 16), START_S))[-1]
    assert (again.seconds, again.twice, again.starts) == (fine.seconds, fine.twice, fine.starts)
