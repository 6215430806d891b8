"""Ends a run early: on a signal, a database that does not answer, or too little memory."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from types import FrameType

from engine.errors import EngineError

#: Shares of the limit of memory between which ever fewer bytes are admitted, and seconds over the second one
#: at rest before giving up.
SCARCE_SHARE, NONE_SHARE, RAM_REST_DEADLINE_S = 0.85, 0.95, 20.0

#: Share of its limit above which a parser that has nothing to do is replaced where memory is scarce.
RETIRED_SHARE = 0.4

#: Seconds to wait for a database without disk space: enough for one that frees space by itself.
DISK_FULL_DEADLINE_S = 15.0

#: Seconds that a parser has to leave the file at hand once the run is to end.
CANCEL_DEADLINE_S = 5.0

#: Seconds of a batch job's time limit that a drain leaves for what comes after it, such as the summary; and
#: the largest share of the job's time that both may take together.
TIME_LIMIT_SPARE_S, TIME_LIMIT_SHARE = 15.0, 0.25

#: Signals that ask a run to drain and end: the operator's, the system's, and the batch system's.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

log = logging.getLogger("engine")


class RunStoppedError(EngineError):
    """The run ends early and can be continued with the same command (exit code 75)."""


def what_goes_on() -> str:
    """What a user can do after an early end."""
    if working_directory_is_gone():
        return "the working directory is gone: run the same command again from an existing one"
    return "run the same command again to continue"


def working_directory_is_gone() -> bool:
    """Whether it was deleted, so that no relative path and no new process can be had."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


class StopRequest:
    """Signal handlers only record here; the supervisor's loop reads it and acts."""

    def __init__(self, grace: float, ends_at: float | None = None) -> None:
        #: Seconds that a drain may take: as asked for, or less where its job ends sooner.
        self.grace = grace
        #: When the job ends that the run is in, and when the drain is to begin for that, by the wall clock.
        self._ends_at = self._drain_at = ends_at
        if ends_at is not None:
            left = max(0.0, ends_at - time.time())
            self._drain_at = ends_at - min(grace + TIME_LIMIT_SPARE_S, TIME_LIMIT_SHARE * left)
        self._signals: list[int] = []
        self._since: float | None = None

    def catch(self) -> Callable[[], None]:
        """Install the signal handlers; the returned function restores the previous ones."""
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
        return bool(self._signals) or self._out_of_time

    @property
    def _out_of_time(self) -> bool:
        return self._drain_at is not None and time.time() >= self._drain_at

    @property
    def why(self) -> str:
        """What asked, for the last line."""
        return "by a signal" if self._signals else "near the time limit of its job"

    def begins(self) -> str | None:
        """What asks for it, once, when the drain is to begin: the signal's name, or the time limit."""
        if not self.asked or self._since is not None:
            return None
        self._since = time.monotonic()
        if self._ends_at is not None:
            left = max(0.0, self._ends_at - time.time())
            self.grace = round(min(self.grace, left - min(TIME_LIMIT_SPARE_S, TIME_LIMIT_SHARE * left)), 1)
        return signal.Signals(self._signals[0]).name if self._signals else "the job's time limit is near"

    def check_asked(self) -> None:
        """Raises `RunStoppedError` where the run shall end: for waits before there is anything to drain."""
        if self.asked:
            raise RunStoppedError(self.why)

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
        if self.draining_s > self.grace:
            late = f"what was in flight took longer than --grace {self.grace:g} s"
            raise RunStoppedError(f"{self.why}; {late}")


class DatabaseWait:
    """How long the database has not answered, or has had no space."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._since = 0.0
        self._disk_full = False
        #: Why it doesn't answer; None while it does.
        self.trouble: str | None = None

    def note(self, trouble: str | None, disk_full: bool = False) -> None:
        """Record what the indexer reports."""
        if trouble is not None and self.trouble is None:
            log.warning("database: %s", trouble)
            self._since = time.monotonic()
        self.trouble, self._disk_full = trouble, disk_full

    def forget(self) -> None:
        """Forget the trouble: the indexer that reported it has ended, and a new one will report."""
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
    """Holds admission back near the limit of memory: less and less from `SCARCE_SHARE` of it on, nothing
    above `NONE_SHARE`."""

    def __init__(self) -> None:
        self._since: float | None = None

    def share(self, total: int, limit: int) -> float:
        """The share of the buffer that may be used while the processes take `total` of `limit` bytes."""
        used = total / limit
        return min(1.0, max(0.0, (NONE_SHARE - used) / (NONE_SHARE - SCARCE_SHARE)))

    def check(self, total: int, limit: int, stalled: bool) -> None:
        """Raises `EngineError` where somebody has waited for memory for `RAM_REST_DEADLINE_S` with nothing on
        its way (`stalled`), because waiting would not help."""
        now = time.monotonic()
        if not stalled or total < NONE_SHARE * limit or self._since is None:
            self._since = now
        if now - self._since > RAM_REST_DEADLINE_S:
            raise EngineError(
                f"--max-ram {limit}: the processes take {total} bytes with nothing in flight;"
                f" give at least {int(total / SCARCE_SHARE)}, or fewer --workers"
            )
