"""Time is counted once, under the right name, also while it passes."""

from __future__ import annotations

import threading
import time

import pytest

from engine.runtime.process import stats as module
from engine.runtime.process.stats import NOTHING, Calls, Clock, Stats


class Hands:
    """In place of the module `time`: time passes where the test says so, and takes no processor time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    process_time = thread_time = staticmethod(lambda: 0.0)


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """A clock to be moved by hand."""
    hands = Hands()
    monkeypatch.setattr(module, "time", hands)
    return hands


def work(seconds: float) -> None:
    """Use so many seconds of the processor in this thread."""
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def test_waits_are_told_by_neighbour_and_by_side_and_are_no_work(hands: Hands) -> None:
    clock = Clock()
    with clock.waiting("in", "files"):
        hands.now += 5
    hands.now += 0.25
    with clock.waiting("out", "credits"):
        hands.now += 10
    stats = clock.read()
    assert stats.waits == {"files": 5, "credits": 10}
    assert (stats.wait_in_s, stats.wait_out_s, stats.busy_s, stats.seconds) == (5, 10, 0.25, 15.25)


def test_a_wait_that_goes_on_now_is_counted_so_far(hands: Hands) -> None:
    clock = Clock()
    with clock.waiting("in", "parsers"):
        hands.now += 5
        waits = clock.waits
        assert clock.read().waits["parsers"] == 5
    assert (waits, clock.waits) == (True, False)


def test_a_call_that_goes_on_now_is_counted_so_far() -> None:
    clock = Clock()
    with clock.calling("text"):
        work(0.05)
        assert clock.read().call("text").cpu_s >= 0.05
    assert clock.read().call("text").seconds >= 0.05
    assert clock.read().call("image") == Calls()


def test_a_call_has_the_processor_time_of_all_threads_but_those_that_move_messages() -> None:
    clock = Clock()

    def beside() -> None:
        with clock.moving():
            work(0.2)

    def model() -> None:
        work(0.2)

    threads = [threading.Thread(target=beside), threading.Thread(target=model)]
    with clock.calling("text"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stats = clock.read()
    assert 0.2 <= stats.call("text").cpu_s < 0.4
    assert stats.cpu_s >= 0.4


def test_an_exception_ends_a_wait_and_a_call() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="x"), clock.calling("parse"), clock.waiting("out", "image model"):
        raise ValueError("x")
    assert not clock.waits
    assert set(clock.read().calls) == {"parse"}


def test_starting_again_forgets_what_was() -> None:
    clock = Clock()
    with clock.waiting("in", "files"):
        work(0.05)
    before = clock.read().cpu_s
    clock.start()
    assert clock.read().waits == {}
    assert clock.read().cpu_s < before


def test_stats_add_up_and_a_part_can_be_taken_away() -> None:
    a = Stats(1.0, 2.0, 3.0, 0.5, {"files": 2.0, "credits": 3.0}, {"parse": Calls(1.0, 0.5)})
    b = Stats(0.5, 0.25, 0.0, 0.25, {"files": 0.25}, {"database": Calls(0.5, 0.25)})
    both = a + b
    assert both == Stats(
        1.5, 2.25, 3.0, 0.75, {"files": 2.25, "credits": 3.0},
        {"parse": Calls(1.0, 0.5), "database": Calls(0.5, 0.25)},
    )  # fmt: skip
    assert (both - b).call("parse") == a.call("parse")
    assert (both - b).waits == a.waits
    assert sum([a, b], NOTHING) == both
