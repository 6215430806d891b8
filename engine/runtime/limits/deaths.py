"""Why a process has to end or has ended: what is stuck, what the kernel shot, when to give up."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError
from engine.runtime.limits.cgroup import memory_groups
from engine.runtime.process.child import Child
from engine.runtime.process.mailbox import AWAY_S, ORPHANED, OUT_OF_MEMORY

#: Seconds that a process may be stopped (SIGSTOP) while the others work, before it is replaced.
STOPPED_DEADLINE_S = 20.0

#: Seconds without any progress of its work after which a process is replaced, whatever it does. Longer than
#: a vector index of millions takes to compact, or a large model to load from a slow file system.
STUCK_DEADLINE_S = 1800.0

#: Signals that mean the file at work crashed its parser. SIGTRAP is how PDFium, as Chromium, ends on a broken
#: assertion; SIGSYS is a forbidden system call.
CRASH_SIGNALS = (
    signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS,
)  # fmt: skip

#: Restarts in a row without a newly acknowledged record before the run has failed; seconds before the first
#: of them, doubled for each further one.
FUTILE_RESTARTS, FIRST_PAUSE_S = 6, 0.5

#: Deaths in a row, with nothing of it acknowledged in between, after which a device is given up that is not
#: the last one.
LANE_DEATHS = 3


class StageDiedError(EngineError):
    """The process behind all lanes (`stage`) is gone: what was on its way is lost and made again."""

    def __init__(self, stage: str, how: str) -> None:
        super().__init__(how)
        self.stage = stage


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a process is killed, and whether the file that its parser has at hand is to blame."""

    reason: str
    blames_file: bool = False


def verdict(child: Child, now: float, file_timeout: float | None = None) -> Verdict | None:
    """Whether the process is stuck at the moment `now` of the monotonic clock.

    `file_timeout` is the limit in seconds for the parser of a file; None where no file is at work.
    """
    stuck = child.stuck_s(now)
    limit = STUCK_DEADLINE_S if file_timeout is None else file_timeout
    if stuck > min(limit, STOPPED_DEADLINE_S) and child.stopped:
        # Whoever stops a process says nothing about its file.
        return Verdict(f"stopped for {stuck:.0f} s") if stuck > STOPPED_DEADLINE_S else None
    if stuck <= limit:
        return None
    if file_timeout is None:
        return Verdict(f"no progress for {limit:g} s")
    return Verdict(f"no progress for {limit:g} s (--file-timeout)", blames_file=True)


def crash(child: Child, oom_kills: OomKills) -> str | None:
    """How a dead parser's file crashed it, in words; None where the death says nothing about the file."""
    code = child.process.exitcode or 0
    if code == -signal.SIGKILL and oom_kills.take():
        return "its parser was killed by SIGKILL: the kernel was out of memory"
    if code == OUT_OF_MEMORY:
        return "its parser ran out of memory (--parser-memory)"
    if code == -signal.SIGABRT:
        # C++ libraries have no other answer to memory that is refused.
        return "its parser was killed by SIGABRT, possibly at the limit of --parser-memory"
    if -code in CRASH_SIGNALS:
        return f"its parser was killed by {signal.Signals(-code).name}"
    if code >= 0 and code != ORPHANED:
        # Nothing from outside does that: a library called `exit`, which it would do again for ever.
        return f"its parser exited with code {code}"
    return None


class OomKills:
    """Counts the processes that the kernel has killed for want of memory: in this control group where it
    tells (`memory.events`, or `memory.oom_control` of version 1), else on this machine (`/proc/vmstat`)."""

    def __init__(self, root: Path = Path("/")) -> None:
        own = memory_groups(root)[:1]
        counters = [folder / ("memory.events" if new else "memory.oom_control") for folder, new in own]
        self._files = [*counters, root / "proc/vmstat"]
        self._accounted = self._count()

    def settle(self) -> None:
        """Account for all until now: whoever they were, the next process to die was none of them."""
        self._accounted = self._count()

    def take(self) -> bool:
        """Whether there was one that no earlier call accounted for; that one is accounted for now."""
        if self._count() <= self._accounted:
            return False
        self._accounted += 1
        return True

    def _count(self) -> int:
        for path in self._files:
            try:
                text = path.read_text(encoding="ascii")
            except OSError:
                continue
            for line in text.splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        return 0


class Restarts:
    """How often each kind of process was started again, and when that is to end."""

    def __init__(self) -> None:
        #: By kind of process, for the summary.
        self.counts = {"parser": 0, "inference": 0, "indexer": 0}
        #: By what is restarted: deaths in a row, and what it had achieved at the last.
        self._in_vain: dict[str, tuple[int, int]] = {}

    def died(self, what: str, progress: int) -> int:
        """Book a death of `what`: how many there were in a row, this one included, with nothing achieved in
        between. `progress` grows with what it achieves."""
        times, before = self._in_vain.get(what, (0, 0))
        times = 1 if progress > before else times + 1
        self._in_vain[what] = times, progress
        return times

    def pause(self, death: str, times: int) -> float:
        """Seconds to wait before the next start after so many deaths in a row.

        Raises `EngineError` after more than `FUTILE_RESTARTS` of them.
        """
        if times > FUTILE_RESTARTS:
            raise EngineError(f"{death}, for the {times}th time with nothing indexed in between")
        return float(FIRST_PAUSE_S * 2 ** (times - 1))


class Away:
    """Notices that this process itself did not run for a while, so that others only seem silent."""

    def __init__(self) -> None:
        self._looked = time.monotonic()

    def look(self, now: float) -> bool:
        """Whether so much time has passed since the last look."""
        before, self._looked = self._looked, now
        return now - before > AWAY_S
