"""A folder of hostile files, healthy ones between them, through the engine as a user runs it."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.hostile import pages, pdfs, picture_parts, pictures, texts
from tests.hostile.kind import Kind
from tests.integration.runs import Corpus, Result
from tests.parsers.pdf_writer import Page, pdf

KINDS = [*texts.KINDS, *pages.KINDS, *pictures.KINDS, *pdfs.KINDS]

#: A healthy file stands before each so many hostile ones.
HEALTHY_EVERY = 5

#: What no user should have to read.
_JARGON = re.compile(
    r"Traceback|\w(?:Error|Exception)\b|0x[0-9a-f]{4}|[Ee]rrno|<class|object at|Success|_[A-Z]{3}"
)


@dataclass(frozen=True)
class Outcome:
    """What became of the files, by their names."""

    result: Result
    healthy: list[str]
    skipped: dict[str, str]
    failures: dict[str, list[str]]
    records: Counter[str]

    def states(self, name: str) -> list[str]:
        """Every state that something tells of this file."""
        found = ["skipped"] if name in self.skipped else []
        if name in self.failures:
            found.append("partial" if self.records[name] else "failed")
        elif self.records[name]:
            found.append("indexed")
        return found


def _name(kind: Kind) -> str:
    return f"{KINDS.index(kind):03d} {kind.name}"


def _healthy(number: int) -> tuple[str, bytes]:
    suffix = ("txt", "html", "pdf", "png", "jpg", "tiff", "md")[number % 7]
    words = f"Healthy file {number}. {texts.PROSE * 3}"
    if suffix == "pdf":
        data = pdf([Page().text(72, 700, f"Healthy file {number}, page {page}.") for page in range(3)])
    elif suffix in picture_parts.FORMATS:
        data = picture_parts.saved(suffix, picture_parts.photo(40 + number, 30))
    else:
        data = (f"<html><body><p>{words}" if suffix == "html" else words).encode()
    return f"healthy {number}.{suffix}", data


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run over all of them."""
    corpus = Corpus(tmp_path_factory.mktemp("hostile"))
    healthy = []
    for number, kind in enumerate(KINDS):
        (corpus.files / _name(kind)).write_bytes(kind.make())
        if number % HEALTHY_EVERY == 0:
            name, data = _healthy(number)
            name = f"{number:03d} {name}"
            (corpus.files / name).write_bytes(data)
            healthy.append(name)
    result = corpus.run("--quiet", "--workers", "2", "--parser-memory", "512MiB", "--file-timeout", "5")
    assert result.code in (0, 3), result.err
    failures: dict[str, list[str]] = {}
    for line in result.lines("failures.jsonl"):
        failures.setdefault(os.path.basename(str(line["source"])), []).append(str(line["message"]))
    return Outcome(
        result,
        healthy,
        {
            os.path.basename(str(line["source"])): f"{line['rule']} {line.get('detail', '')}"
            for line in result.lines("skipped.jsonl")
        },
        failures,
        Counter(os.path.basename(str(record["source"])) for record in corpus.records().values()),
    )


def test_there_are_enough_kinds_and_each_has_a_name_of_its_own() -> None:
    assert len(KINDS) >= 80
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_the_run_ends_and_says_that_files_failed(outcome: Outcome) -> None:
    assert outcome.result.code == 3


def test_every_file_is_in_exactly_one_state_and_the_summary_counts_them_all(outcome: Outcome) -> None:
    names = [*map(_name, KINDS), *outcome.healthy]
    states = {name: outcome.states(name) for name in names}
    assert {name: found for name, found in states.items() if len(found) != 1} == {}
    counted = Counter(found[0] for found in states.values())
    assert outcome.result.files == {"discovered": len(names), **counted}
    summary = outcome.result.summary
    assert summary["chunks"]["indexed"] == summary["totals"]["records"] == outcome.records.total()
    assert set(outcome.records) <= set(names)


def test_every_healthy_file_between_them_is_indexed(outcome: Outcome) -> None:
    assert len(outcome.healthy) >= len(KINDS) // HEALTHY_EVERY
    assert {name: found for name in outcome.healthy if (found := outcome.states(name)) != ["indexed"]} == {}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_hostile_file_ends_as_it_should_with_a_reason_in_words(outcome: Outcome, kind: Kind) -> None:
    name = _name(kind)
    (state,) = outcome.states(name)
    assert state in kind.states.split()
    if state == "indexed":
        return
    reasons = [outcome.skipped[name]] if state == "skipped" else outcome.failures[name]
    for reason in reasons:
        assert kind.says and re.search(kind.says, reason), reason
        assert not _JARGON.search(reason)
