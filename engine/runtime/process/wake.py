"""Wakes the supervisor: at once for a message that somebody waits for, a moment later for the rest."""

from __future__ import annotations

import threading


class WakeEvent:
    """Set by the threads that read from children; one thread waits for it."""

    def __init__(self) -> None:
        self._any, self._urgent = threading.Event(), threading.Event()

    def set(self, urgent: bool = True) -> None:
        """A message has come."""
        if urgent:
            self._urgent.set()
        self._any.set()

    def wait(self, seconds: float, patience: float = 0.0) -> None:
        """Wait so long, or until a message has come, and `patience` seconds more where it was not urgent.

        Read the messages after this: later messages wake the loop again.
        """
        if self._any.wait(seconds) and patience:
            self._urgent.wait(patience)
        self._any.clear()
        self._urgent.clear()
