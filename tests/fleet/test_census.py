"""The sample of a corpus, and what it says of the whole."""

from __future__ import annotations

import random

import pytest

from engine.fleet.census import SAMPLE_FILES, Census, Class, Sampled
from engine.fleet.estimate import estimate
from engine.fleet.trial import Trial, Yielded
from tests.items import item

#: Records of a megabyte of a file, by whether it is large: large ones give half as many.
RATES = {False: 2000.0, True: 1000.0}


def drawn(seed: int, files: int) -> tuple[Class, float]:
    """Files of uneven sizes, of which some were drawn, and the records of all of them."""
    chance = random.Random(seed)
    found, records = Class(), 0.0
    for number in range(files):
        size = int(chance.paretovariate(1.3) * 10_000)
        found.add(item(f"/c/{number}.txt", size), float(size), chance)
        records += size * RATES[size > 100_000] / 1e6
    return found, records


def guessed(found: Class, done: set[int]) -> float:
    """The records of a corpus of which the run came through these files of the sample, by their priority."""
    ordered = sorted(found.sample, reverse=True)
    yields = [yielded(file, number in done) for number, file in enumerate(ordered)]
    counts = {"text": 100, "image": 0, "indexed": 100}
    summary = {
        "tokens": 25_600, "chunks": counts, "seconds": 12.0, "memory": {},
        "stages": {"infer": {"calls": {"text": {"seconds": 8.0}}}},
        "speed_of_light": {"window_s": 10.0, "device": "cpu"},
    }  # fmt: skip
    census = Census(classes={"text/plain": found})
    made = estimate(census, Trial(summary, 10_000, {"text/plain": yields}, {"text/plain": 256.0}))
    assert made.tokens == pytest.approx(made.records * 256)
    assert made.index_bytes == pytest.approx(made.records * 100)
    return made.records


def yielded(file: Sampled, done: bool) -> Yielded:
    texts = round(file.size * RATES[file.size > 100_000] / 1e6)
    return Yielded(file, file.size, texts if done else 0, 0, done)


def test_a_corpus_that_was_looked_at_whole_is_counted() -> None:
    found, records = drawn(1, SAMPLE_FILES)
    assert found.next == 0
    assert guessed(found, set(range(SAMPLE_FILES))) == pytest.approx(records, rel=0.01)


@pytest.mark.parametrize("done", [60, 200])
def test_a_part_of_it_is_right_on_average_and_never_far_off(done: int) -> None:
    errors = []
    for seed in range(30):
        found, records = drawn(seed, 5000)
        errors.append(guessed(found, set(range(done))) / records - 1)
    assert abs(sum(errors) / len(errors)) < 0.05
    assert max(map(abs, errors)) < 0.3


def test_files_that_were_faster_than_others_before_them_do_not_count() -> None:
    found, _ = drawn(3, 5000)
    only_one_missing = set(range(SAMPLE_FILES)) - {50}
    assert guessed(found, only_one_missing) == guessed(found, set(range(50)))
