from __future__ import annotations

import random

from engine.models.batching import batches


def test_every_input_is_in_one_batch_and_the_longest_comes_first() -> None:
    chance = random.Random(3)
    lengths = [chance.randint(1, 256) for _ in range(500)]
    cut = list(batches(lengths, 2000))
    assert sorted(index for batch in cut for index in batch) == list(range(500))
    assert lengths[cut[0][0]] == max(lengths)


def test_a_padded_batch_stays_within_the_budget() -> None:
    lengths = [7, 1, 256, 30, 30, 31, 2] * 20
    for batch in batches(lengths, 512):
        assert max(lengths[index] for index in batch) * len(batch) <= 512


def test_an_input_above_the_budget_is_a_batch_of_its_own() -> None:
    assert list(batches([5, 900, 5], 100)) == [[1], [0, 2]]


def test_no_inputs_make_no_batches() -> None:
    assert list(batches([], 100)) == []


def test_workers_that_take_batch_by_batch_find_the_last_ones_small() -> None:
    chance = random.Random(5)
    lengths = [chance.randint(16, 256) for _ in range(128)]
    cut = list(batches(lengths, 512, workers=2))
    assert sorted(index for batch in cut for index in batch) == list(range(128))
    left = sum(lengths)
    for batch in cut:
        padded = max(lengths[index] for index in batch) * len(batch)
        assert len(batch) == 1 or padded <= min(512, left // 4)
        left -= sum(lengths[index] for index in batch)
    assert [len(batch) for batch in cut[-3:]] == [1, 1, 1]


def test_without_a_budget_every_input_is_alone() -> None:
    assert list(batches([3, 9, 3], 0, workers=2)) == [[1], [0], [2]]
