"""Which file a process is at is seen from another one, also when it is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.runtime.process.current_item import CurrentItem
from tests.runtime import children
from tests.runtime.conftest import Start

OPEN_FILES = Path("/proc/self/fd")


@pytest.mark.parametrize("memory_files", [True, False])
def test_what_a_process_has_begun_and_ended_is_seen_though_it_was_killed(
    start: Start, memory_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not memory_files:
        monkeypatch.delattr("os.memfd_create", raising=False)
    current_item = CurrentItem()
    assert (current_item.current, current_item.last) == (0, 0)
    for begun, ended, expected in [(7, False, (7, 7)), (2**40, True, (0, 2**40))]:
        start(children.at_work_on, current_item, begun, ended).process.join(120)
        assert (current_item.current, current_item.last) == expected


def test_where_in_its_file_a_process_is_starts_anew_with_each_file() -> None:
    current_item = CurrentItem()
    current_item.begin(1)
    current_item.came_to(0.25)
    current_item.emitted(212)
    assert (current_item.share, current_item.page) == (0.25, 212)
    current_item.came_to(1)
    current_item.emitted(None)
    assert (current_item.share, current_item.page) == (1.0, None)
    current_item.begin(2)
    assert (current_item.current, current_item.share, current_item.page) == (2, 0.0, None)


@pytest.mark.skipif(not OPEN_FILES.exists(), reason="only Linux shows the files that are open")
def test_its_descriptors_are_closed_with_it() -> None:
    before = len(os.listdir(OPEN_FILES))
    made = [CurrentItem() for _ in range(5)]
    assert len(os.listdir(OPEN_FILES)) == before + 10
    made.clear()
    assert len(os.listdir(OPEN_FILES)) == before
