"""What somebody waits for wakes at once; the rest gathers for a moment, and nothing is slept through."""

from __future__ import annotations

import threading
import time

from engine.runtime.bell import Bell

#: Longer than any of these tests may take.
LONG_S = 30.0


def passed(bell: Bell, seconds: float, patience: float) -> float:
    began = time.monotonic()
    bell.wait(seconds, patience)
    return time.monotonic() - began


def test_what_is_not_urgent_gathers_for_a_moment() -> None:
    bell = Bell()
    bell.ring(urgent=False)
    assert 0.2 <= passed(bell, LONG_S, 0.2) < LONG_S
    bell.ring(urgent=False)
    assert passed(bell, LONG_S, 0.0) < LONG_S


def test_what_is_urgent_ends_the_patience_with_what_came_before() -> None:
    bell = Bell()
    bell.ring(urgent=False)
    threading.Timer(0.05, bell.ring).start()
    assert passed(bell, LONG_S, LONG_S) < LONG_S


def test_a_bell_that_nobody_rings_is_waited_for_without_patience() -> None:
    assert 0.05 <= passed(Bell(), 0.05, LONG_S) < LONG_S


def test_a_ring_between_two_waits_is_not_lost() -> None:
    bell = Bell()
    bell.wait(0.0)
    bell.ring()
    assert passed(bell, LONG_S, LONG_S) < LONG_S
