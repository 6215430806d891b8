"""What ends a run early: a signal, a database that stays away, memory that doesn't suffice."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType

from engine.errors import EngineError

#: Share of `--max-ram` at which no more bytes are admitted, and seconds over it at rest before giving up.
RAM_ADMISSION_SHARE, RAM_REST_DEADLINE_S = 0.9, 20.0

#: Seconds that a database without space is waited for: long enough for one that makes room by itself.
DISK_FULL_DEADLINE_S = 15.0

#: Seconds that a parser has to leave the file at hand once the run is to end.
CANCEL_DEADLINE_S = 5.0

#: Signals that ask a run to drain and end: the operator's, the system's, and the batch system's.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

log = logging.getLogger("engine")


class RunStoppedError(EngineError):
    """The run ends early in a state from which the same command goes on (exit code 75)."""


class StopRequest:
    """Signals only leave a mark here; the supervisor's loop reads it and acts."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._signals: list[int] = []
        self._since: float | None = None

    def catch(self) -> Callable[[], None]:
        """Listen to the signals; the result restores what was."""
        before = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        return restore

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    @property
    def asked(self) -> bool:
        """Whether the run shall end."""
        return bool(self._signals)

    def begins(self) -> str | None:
        """The signal's name, once, when the drain is to begin."""
        if not self._signals or self._since is not None:
            return None
        self._since = time.monotonic()
        return signal.Signals(self._signals[0]).name

    @property
    def urgent(self) -> bool:
        """Whether the run shall end at once: a second Ctrl-C."""
        return self._signals.count(signal.SIGINT) > 1

    @property
    def draining_s(self) -> float:
        """Seconds since the drain began; 0 before it."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def check(self) -> None:
        """Raises `RunStoppedError` after a second Ctrl-C, or a drain of more than `--grace` seconds."""
        if self.urgent:
            raise RunStoppedError("interrupted twice")
        if self.draining_s > self._grace:
            raise RunStoppedError(f"what was in flight took longer than --grace {self._grace:g} s")


class DatabaseWait:
    """How long the database has not answered, or has had no space."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._since = 0.0
        self._disk_full = False
        #: Why it doesn't answer; None while it does.
        self.trouble: str | None = None

    def note(self, trouble: str | None, disk_full: bool = False) -> None:
        """What the indexer says."""
        if trouble is not None and self.trouble is None:
            log.warning("database: %s", trouble)
            self._since = time.monotonic()
        self.trouble, self._disk_full = trouble, disk_full

    def forget(self) -> None:
        """The process that said so is gone; a new one tells anew."""
        self.trouble, self._disk_full = None, False

    def check(self) -> None:
        """Raises `RunStoppedError` after `--database-deadline` seconds without an answer, or
        `DISK_FULL_DEADLINE_S` without space."""
        if self.trouble is None:
            return
        waited = time.monotonic() - self._since
        if self._disk_full and waited > min(DISK_FULL_DEADLINE_S, self._deadline):
            raise RunStoppedError(f"{self.trouble}; free some space")
        if waited > self._deadline:
            raise RunStoppedError(f"the database did not answer for {self._deadline:g} s ({self.trouble})")


class RamGuard:
    """Holds admission back near `--max-ram` bytes (None: never)."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._since: float | None = None

    def over(self, total: int, waited_for: bool) -> bool:
        """Whether nothing more may be admitted, while the processes take `total` bytes.

        `waited_for`: somebody waits for admission with nothing in flight. Raises `EngineError` where that
        lasts, because waiting would not help.
        """
        if self._limit is None or total < RAM_ADMISSION_SHARE * self._limit:
            self._since = None
            return False
        now = time.monotonic()
        if not waited_for or self._since is None:
            self._since = now
        if now - self._since > RAM_REST_DEADLINE_S:
            raise EngineError(
                f"--max-ram {self._limit}: the processes take {total} bytes with nothing in flight;"
                f" give at least {int(total / RAM_ADMISSION_SHARE)}, or fewer --workers"
            )
        return True
