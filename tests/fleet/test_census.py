"""The sample of a corpus, and what it says of the whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.cli.options import parse
from engine.fleet.census import Census, class_of, take_census
from engine.fleet.estimate import Estimate, estimate
from engine.fleet.trial import Trial, Yield, _sample
from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report.summary import Chunks, SpeedOfLight, Summary

#: Records of a kilobyte of a file, by whether it is large.
RATES = {False: 2.0, True: 1.0}


def records_of(size: int) -> int:
    return round(size * RATES[size > 20_000] / 1000)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A thousand texts of uneven sizes, and one as large as all of them together."""
    chance, total = random.Random(5), 0
    for number in range(1000):
        size = int(chance.paretovariate(1.3) * 3_000)
        total += size
        with open(tmp_path / f"{number}.txt", "wb") as file:
            file.truncate(size)
    with open(tmp_path / "manual.pdf", "wb") as file:
        file.truncate(total)
    return tmp_path


def guessed(census: Census, work: Path, share: float) -> Estimate:
    """What is made of a run that came through the beginning of the sample."""
    order = list(_sample(census, work))
    sizes = {file.uri: file.size for each in census.classes.values() for file in each.sample}
    yields: dict[tuple[str, int], Yield] = {}
    for source, key in order[: max(1, int(share * len(order)))]:
        size = sizes.get(source, 2**20)
        seen = yields.setdefault(key, Yield())
        seen.files, seen.size, seen.texts = seen.files + 1, seen.size + size, seen.texts + records_of(size)
    summary = Summary(
        tokens=25_600, chunks=Chunks(text=100, indexed=100), seconds=12.0,
        stages={"infer": Stats(calls={"text": Calls(8.0)})},
        speed_of_light=SpeedOfLight(window_s=10.0, device="cpu"),
    )  # fmt: skip
    return estimate(census, Trial(summary, 10_000, yields, {"text/plain": 256.0}))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_part_of_the_sample_tells_of_the_whole(corpus: Path, tmp_path: Path, share: float) -> None:
    census = take_census(parse([str(corpus), "--adapter", "memory://x"]))
    work = tmp_path / "work"
    work.mkdir()
    made = guessed(census, work, share)
    texts = next(each for each in made.types if each.type == "text/plain")
    real = sum(records_of(path.stat().st_size) for path in corpus.glob("*.txt"))
    assert texts.files == 1000
    assert texts.texts == pytest.approx(real, rel=0.15)
    assert texts.tokens == pytest.approx(texts.texts * 256)
    assert made.index_bytes == pytest.approx(made.records * 100)


def test_a_file_that_is_much_of_the_corpus_comes_when_the_others_have_had_their_turn(
    corpus: Path, tmp_path: Path
) -> None:
    census = take_census(parse([str(corpus), "--adapter", "memory://x"]))
    work = tmp_path / "work"
    work.mkdir()
    order = list(_sample(census, work))
    place = next(place for place, (source, _) in enumerate(order) if source.endswith(".pdf"))
    assert place > len(order) / 2
    files = [file for each in census.classes.values() for file in each.sample]
    assert all(file in census.classes[class_of(file)].sample for file in files)
