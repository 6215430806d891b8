"""How far a run has come is measured in bytes, also within a large file, and rates are those of now."""

from __future__ import annotations

import time
from typing import Any

import pytest

from engine.runtime.ledger.counts import Counts
from engine.runtime.ledger.embedded import EmbeddedBytes
from engine.runtime.report.gauge import WINDOW_S, Gauge
from engine.runtime.report.total import CorpusTotal
from engine.stages.parse import FileEnd, FileJob
from tests.items import item


class Fake:
    """Anything, by its identity."""


def fake(**attributes: Any) -> Any:
    """Something with these attributes."""
    made = Fake()
    vars(made).update(attributes)
    return made


def work(size: int, attempt: int = 1, arrived: int = 0, end: FileEnd | None = None) -> Any:
    found = item("/a", size=size)
    return fake(item=found, attempts=[attempt], arrived=1, arrived_chunks=arrived, end=end)


class Scene:
    """A gauge over parts that a test changes."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.accounts = fake(counts=self.counts, embedded_bytes=EmbeddedBytes(), latest=("", None))
        self.intake = fake(listed=False)
        self.pipeline = fake(slots=[])
        self.total = CorpusTotal(None)
        self.gauge = Gauge(self.accounts, self.intake, self.pipeline, self.total)

    def parses(self, attempt: int, uri: str, share: float, page: int | None) -> None:
        at = fake(current=attempt, share=share, page=page)
        slot = fake(current_item=at, current=FileJob(attempt, item(uri)))
        self.pipeline.slots.append((None, slot))


# Bytes


def test_the_part_of_a_file_that_is_read_and_embedded_is_done() -> None:
    scene = Scene()
    scene.counts.bytes_found, scene.counts.bytes_done, scene.counts.text_chunks = 2000, 500, 6
    scene.parses(7, "/book.pdf", 0.5, 212)
    scene.accounts.embedded_bytes.add(work(1000, attempt=7, arrived=8), 6)
    seen = scene.gauge.look()
    assert (seen.bytes_done, seen.bytes_total) == (500 + 1000 * 0.5 * 6 / 8, 2000)
    assert (seen.item, seen.page) == ("book.pdf", 212)


def test_a_file_that_is_embedded_to_its_end_is_done_before_the_database_has_it() -> None:
    embedded = EmbeddedBytes()
    end = FileEnd("parsed", segments=1, chunks=8)
    whole, begun = work(1000, arrived=8, end=end), work(300, arrived=4, end=end)
    embedded.add(whole, 3)
    embedded.add(whole, 5)
    embedded.add(begun, 1)
    assert embedded.size({}) == 1000 + 300 / 4
    embedded.forget(whole)
    assert embedded.size({}) == 300 / 4
    embedded.forget(begun)
    embedded.forget(begun)
    assert embedded.size({}) == 0


def test_the_total_is_a_least_until_one_of_both_listings_has_ended() -> None:
    scene = Scene()
    scene.counts.bytes_found = 10
    scene.total.size = 500
    assert (scene.gauge.look().bytes_total, scene.gauge.look().total_known) == (500, False)
    scene.total.ended = True
    assert (scene.gauge.look().bytes_total, scene.gauge.look().total_known) == (500, True)
    scene.total.ended, scene.intake.listed, scene.counts.bytes_found = False, True, 480
    assert (scene.gauge.look().bytes_total, scene.gauge.look().total_known) == (480, True)


def test_the_item_is_the_oldest_that_is_parsed_or_else_the_last_that_was_written() -> None:
    scene = Scene()
    scene.counts.text_chunks = 1
    scene.accounts.latest = ("/folder/last.pdf", 3)
    assert (scene.gauge.look().item, scene.gauge.look().page) == ("last.pdf", 3)
    scene.parses(9, "/young.txt", 0, None)
    scene.parses(8, "/old.txt", 0, None)
    assert scene.gauge.look().item == "old.txt"


def test_while_models_are_loaded_the_run_is_starting_whatever_was_skipped() -> None:
    scene = Scene()
    scene.counts.discovered, scene.counts.skipped = 10, 1
    scene.parses(1, "/a.txt", 0, None)
    assert (scene.gauge.look().starting, scene.gauge.look().item) == (True, None)
    scene.counts.text_chunks = 1
    assert (scene.gauge.look().starting, scene.gauge.look().item) == (False, "a.txt")
    # A run that has nothing to do is not starting either.
    scene.counts.text_chunks, scene.counts.unchanged, scene.intake.listed = 0, 9, True
    assert not scene.gauge.look().starting


# Rates


def test_rates_are_what_was_computed_within_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, now = Scene(), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counts = scene.counts
    counts.bytes_found = 10_000
    assert scene.gauge.look().tokens_per_s == 0
    now[0] += 60  # models are loaded
    scene.gauge.look()
    now[0] += 10
    counts.tokens, counts.spared_tokens, counts.image_chunks, counts.spared_pictures = 6000, 1000, 30, 10
    counts.bytes_done = 1000
    seen = scene.gauge.look()
    assert (seen.tokens_per_s, seen.images_per_s) == (500, 2)
    assert seen.eta_s == (10_000 - 1000) / (1000 / 10)
    now[0] += WINDOW_S + 1
    scene.gauge.look()
    now[0] += 10
    counts.tokens, counts.bytes_done = 6100, 1010
    assert scene.gauge.look().eta_s is None  # too little was done to tell
    counts.bytes_done = 10_000
    seen = scene.gauge.look()
    assert (seen.tokens_per_s, seen.eta_s) == (10, None)


def test_files_that_need_nothing_are_done_at_once_and_say_nothing_of_the_time_that_is_left() -> None:
    scene = Scene()
    scene.counts.bytes_found, scene.counts.bytes_done = 1000, 900
    scene.counts.discovered, scene.counts.unchanged = 10, 9
    seen = scene.gauge.look()
    assert (seen.bytes_done, seen.files, seen.eta_s) == (900, 9, None)
