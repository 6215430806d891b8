"""The bell that wakes the supervisor: at once for what somebody waits for, a moment later for the rest."""

from __future__ import annotations

import threading


class Bell:
    """Rung by the threads that read from children; one thread waits for it."""

    def __init__(self) -> None:
        self._any, self._urgent = threading.Event(), threading.Event()

    def ring(self, urgent: bool = True) -> None:
        """Something was said."""
        if urgent:
            self._urgent.set()
        self._any.set()

    def wait(self, seconds: float, patience: float = 0.0) -> None:
        """Wait so long, or until it has rung, and `patience` seconds more for what was not urgent.

        What was said is to be read after this: only what is said from then on will ring again.
        """
        if self._any.wait(seconds) and patience:
            self._urgent.wait(patience)
        self._any.clear()
        self._urgent.clear()
