"""The window and the pause, on a clock of the test's own."""

from __future__ import annotations

import pytest

from adapters.elasticsearch import flow
from adapters.elasticsearch.flow import Pause, Window

MOST = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The random share of a pause is all of it."""
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    return Clock()


def overload(window: Window, size: int) -> None:
    window.refused(size, window.take(size))


def test_requests_fill_the_window_and_no_more() -> None:
    window = Window(MOST)
    for _ in range(2):
        assert window.admits(512)
        window.take(512)
    assert not window.admits(1)
    window.acknowledged(512)
    assert window.admits(512)


def test_a_request_may_start_alone_however_small_the_window() -> None:
    window = Window(MOST)
    for _ in range(50):
        overload(window, 8)
    assert window.limit == 1
    assert window.admits(10 * MOST)
    window.take(8)
    assert not window.admits(8)


def test_an_overload_halves_the_window_once_for_all_that_was_under_way() -> None:
    window = Window(MOST)
    tickets = [window.take(256) for _ in range(4)]
    for ticket in tickets:
        window.refused(256, ticket)
    assert window.limit == MOST / 2
    assert window.under_way == 0
    overload(window, 256)
    assert window.limit == MOST / 4


def test_the_window_grows_by_one_step_for_each_whole_window_acknowledged() -> None:
    window = Window(MOST)
    overload(window, 512)
    for _ in range(2):
        window.take(256)
        window.acknowledged(256)
    step = MOST * flow.GROWTH_SHARE
    assert MOST / 2 + 0.9 * step < window.limit <= MOST / 2 + step


def test_a_tiny_window_doubles_at_most_and_comes_back_to_its_full_size() -> None:
    window = Window(MOST)
    for _ in range(20):
        overload(window, 1)
    before = window.limit
    window.take(100)
    window.acknowledged(100)
    assert window.limit == 2 * before
    for _ in range(100):
        window.take(MOST)
        window.acknowledged(MOST)
    assert window.limit == MOST


def test_what_is_broken_but_not_overloaded_leaves_the_window() -> None:
    window = Window(MOST)
    window.take(512)
    window.settled(512)
    assert (window.limit, window.under_way) == (MOST, 0)


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    pause = Pause(clock)
    lengths = []
    for _ in range(9):
        pause.failed()
        lengths.append(pause.left)
        clock.now += pause.left
    assert lengths[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert max(lengths) == lengths[-1] == pytest.approx(flow.LONGEST_PAUSE)
    assert pause.stalled == pytest.approx(sum(lengths))


def test_requests_that_fail_together_are_one_failure(clock: Clock) -> None:
    pause = Pause(clock)
    pause.failed()
    left = pause.left
    pause.failed()
    assert pause.left == left


def test_progress_ends_the_pause_and_the_patience_begins_anew(clock: Clock) -> None:
    pause = Pause(clock)
    for _ in range(5):
        pause.failed()
        clock.now += pause.left
    pause.progressed()
    assert (pause.left, pause.stalled) == (0.0, 0.0)
    pause.failed()
    assert pause.left == pytest.approx(flow.FIRST_PAUSE)
