"""Shares of equal work: balance, completeness, determinism, bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fleet.shards import FACTOR, HEAD, LAST, Block, Heavy, Share, Survey, cut

Works = Callable[[], Iterator[Block]]


def blocks(works: np.ndarray[tuple[int], np.dtype[np.float64]], size: int = 100) -> Works:
    """The files in blocks, as often as they are asked for."""

    def made() -> Iterator[Block]:
        for first in range(0, len(works), size):
            part = works[first : first + size]
            yield Block(7 * first, first, part, part.astype(np.int64))

    return made


def shares_of(made: Works, tasks: int) -> tuple[list[Heavy], list[Share], list[Share]]:
    """Both passes."""
    survey = Survey(tasks)
    for block in made():
        survey.add(block)
    return cut(made(), survey)


def held(heavy: list[Heavy], share: Share) -> list[int]:
    """The numbers of a share's files."""
    apart = {each.number for each in heavy}
    tail = [number for number in range(share.start, share.stop) if number not in apart]
    return [heavy[i].number for i in share.heavy] + tail


@pytest.mark.parametrize("seed", range(5))
def test_shards_differ_by_less_than_a_light_file_where_sizes_have_a_heavy_tail(seed: int) -> None:
    works = 1 + np.random.default_rng(seed).pareto(1.2, 20_000)
    works = np.minimum(works, works.sum() / 50)  # no file is more than a shard's share
    heavy, shards, _ = shares_of(blocks(works), 40)
    loads = np.array([share.work for share in shards])
    assert loads.max() - loads.min() < 2 * works.sum() / 40 / HEAD
    assert len(heavy) <= HEAD * 40


def test_leases_shrink_from_a_fixed_part_of_a_share_to_a_small_one() -> None:
    works = np.full(200_000, 1.0)
    _, _, leases = shares_of(blocks(works), 10)
    loads = [lease.work for lease in leases]
    share = works.sum() / 10
    assert loads[0] == pytest.approx(share / FACTOR, rel=0.01)
    assert max(loads[-10:]) <= 1.6 * share / LAST
    rounds = [sum(loads[i : i + 10]) for i in range(0, len(loads) - 10, 10)]
    assert rounds == sorted(rounds, reverse=True)


def test_the_heaviest_files_are_leased_first() -> None:
    works = np.ones(1000)
    works[[700, 100, 400]] = 300.0, 900.0, 600.0
    heavy, _, leases = shares_of(blocks(works), 3)
    assert [heavy[i].number for lease in leases[:3] for i in lease.heavy] == [100, 400, 700]


@given(
    st.lists(st.one_of(st.floats(1e-3, 1.0), st.floats(1.0, 1e12)), max_size=300),
    st.integers(1, 20),
)
def test_every_file_is_in_one_shard_and_in_one_lease(works: list[float], tasks: int) -> None:
    made = blocks(np.array(works, dtype=np.float64), size=7)
    heavy, shards, leases = shares_of(made, tasks)
    assert len(shards) == tasks
    for shares in (shards, leases):
        numbers = [number for share in shares for number in held(heavy, share)]
        assert sorted(numbers) == list(range(len(works)))
        assert sum(share.files for share in shares) == len(works)
    for share in (*shards, *leases):
        assert share.files == len(held(heavy, share))
        if share.stop > share.start:
            assert share.first <= share.start < share.first + 7 and share.offset == 7 * share.first
    assert (heavy, shards, leases) == shares_of(made, tasks)


def test_cutting_takes_no_more_memory_for_more_files() -> None:
    def peak(files: int) -> int:
        def made() -> Iterator[Block]:
            for first in range(0, files, 1000):
                works = 1 + np.random.default_rng(first).pareto(1.2, 1000)
                yield Block(first, first, works, works.astype(np.int64))

        tracemalloc.start()
        shares_of(made, 20)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(800_000) < 1.3 * peak(80_000)
