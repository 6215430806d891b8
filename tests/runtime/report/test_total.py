"""The corpus is counted ahead of the run, at little cost, and what goes wrong there is no matter."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import Config, CorpusConfig
from engine.runtime.report import total as module
from engine.runtime.report.total import CorpusTotal, total_of
from engine.sources.base import Found, LeftOut
from tests.items import item


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELAY_S", 0.0)


def counted(total: CorpusTotal) -> CorpusTotal:
    total.start()
    total._thread.join(120)
    return total


def test_it_adds_up_what_is_no_rule_s_and_says_when_it_has_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(1000))
    (tmp_path / ".hidden").write_bytes(bytes(50))
    (tmp_path / "below").mkdir()
    (tmp_path / "below/b.txt").write_bytes(bytes(234))
    total = counted(
        total_of(Config(CorpusConfig((str(tmp_path),)), run_dir=tmp_path / "runs/r"), narrowed=False)
    )
    assert (total.size, total.ended) == (1234, True)


def test_it_stops_where_the_run_will() -> None:
    total = counted(
        CorpusTotal(lambda: [item("/a"), LeftOut("/b", "hidden"), item("/c"), item("/d")], limit=3)
    )
    assert (total.paths, total.size, total.ended) == (3, 2 * item("/a").size, True)


def test_a_listing_that_fails_leaves_the_total_open() -> None:
    def listing() -> Iterator[Found]:
        yield item("/a")
        raise OSError("gone")

    total = counted(CorpusTotal(listing))
    assert (total.size, total.ended) == (item("/a").size, False)


def test_nothing_is_counted_that_can_be_read_only_once(tmp_path: Path) -> None:
    total = counted_or_not(total_of(Config(CorpusConfig(files_from="-"), run_dir=tmp_path), narrowed=False))
    assert not total.ended
    total = counted_or_not(total_of(Config(CorpusConfig((str(tmp_path),)), run_dir=tmp_path), narrowed=True))
    assert not total.ended


def counted_or_not(total: CorpusTotal) -> CorpusTotal:
    before = threading.active_count()
    total.start()
    assert threading.active_count() == before
    return total


def test_an_endless_listing_takes_its_share_of_a_core_and_ends_when_it_is_asked_to() -> None:
    def listing() -> Iterator[Found]:
        while True:
            yield item("/a")

    total, began = CorpusTotal(listing), time.monotonic()
    total.start()
    # By then it has had to pause several times.
    while total.cpu_s < 5 * module.CORE_SHARE * 0.1 and time.monotonic() - began < 120:
        time.sleep(0.01)
    total.stop()
    seconds = time.monotonic() - began
    total._thread.join(120)
    assert not total._thread.is_alive()
    assert total.cpu_s <= module.CORE_SHARE * seconds + 0.05
