"""What somebody waits for wakes at once; the rest gathers for a moment, and nothing is slept through."""

from __future__ import annotations

import threading
import time

from engine.runtime.process.wake import WakeEvent

#: Longer than any of these tests may take.
LONG_S = 120.0


def passed(wake: WakeEvent, seconds: float, patience: float) -> float:
    began = time.monotonic()
    wake.wait(seconds, patience)
    return time.monotonic() - began


def test_what_is_not_urgent_gathers_for_a_moment() -> None:
    wake = WakeEvent()
    wake.set(urgent=False)
    assert 0.2 <= passed(wake, LONG_S, 0.2) < LONG_S
    wake.set(urgent=False)
    assert passed(wake, LONG_S, 0.0) < LONG_S


def test_what_is_urgent_ends_the_patience_with_what_came_before() -> None:
    wake = WakeEvent()
    wake.set(urgent=False)
    threading.Timer(0.05, wake.set).start()
    assert passed(wake, LONG_S, LONG_S) < LONG_S


def test_a_bell_that_nobody_rings_is_waited_for_without_patience() -> None:
    assert 0.05 <= passed(WakeEvent(), 0.05, LONG_S) < LONG_S


def test_a_ring_between_two_waits_is_not_lost() -> None:
    wake = WakeEvent()
    wake.wait(0.0)
    wake.set()
    assert passed(wake, LONG_S, LONG_S) < LONG_S
