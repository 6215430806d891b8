"""The simulated fleet: the same from the same seed, every lease done, and leases ahead of static shards."""

from __future__ import annotations

from benchmarks.fleet.simulate import simulate
from benchmarks.fleet.world import make_world


def test_leases_end_near_the_ideal_where_static_shards_wait_for_the_slowest() -> None:
    world = make_world(files=200_000, tasks=20, hours=4.0, seed=5)
    by_hash, by_bytes, leases = simulate(world, ttl=120.0, seed=5)
    assert leases.seconds < 1.1 * world.ideal()
    assert min(by_hash.seconds, by_bytes.seconds) > leases.seconds
    assert leases.twice < 0.02 * world.actual.sum()
    again = simulate(world, ttl=120.0, seed=5)[-1]
    assert (again.seconds, again.twice, again.operations) == (leases.seconds, leases.twice, leases.operations)
