"""Memory of the process tree, sampled while a run lives."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import psutil

#: What `summary.json` tells the peaks of.
STAGES = ("total", "supervisor", "parsers", "inference", "indexer")

#: Seconds between two samples: short at first, because a run may be short; PSS costs up to 16 ms a GB.
FIRST_INTERVAL_S, LONGEST_INTERVAL_S = 0.5, 5.0


def pss_bytes(pid: int) -> int:
    """Proportional set size of one process, in bytes; RSS where the system has no PSS; 0 once it is gone."""
    try:
        if sys.platform == "linux":
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        return int(line.split()[1]) * 1024
        return int(psutil.Process(pid).memory_info().rss)
    except (OSError, psutil.Error):
        return 0


class MemorySampler:
    """A thread that samples the memory of each stage's processes and keeps the peaks, in bytes.

    `processes` gives the living processes as (stage, pid); the supervisor itself is added.
    """

    def __init__(self, processes: Callable[[], list[tuple[str, int]]]) -> None:
        self._processes = processes
        self._done = threading.Event()
        #: Highest sum over a stage's processes, and over all (`total`), in one sample; 0 for what never ran.
        self.peaks = dict.fromkeys(STAGES, 0)
        #: The newest sum over all.
        self.total = 0
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin sampling."""
        self._thread.start()

    def sample(self) -> None:
        """Take one sample now."""
        sums = {"supervisor": pss_bytes(os.getpid())}
        for stage, pid in self._processes():
            sums[stage] = sums.get(stage, 0) + pss_bytes(pid)
        sums["total"] = self.total = sum(sums.values())
        for stage, size in sums.items():
            self.peaks[stage] = max(self.peaks.get(stage, 0), size)

    def stop(self) -> None:
        """End sampling."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        interval = FIRST_INTERVAL_S
        while not self._done.wait(interval):
            self.sample()
            interval = min(LONGEST_INTERVAL_S, 1.1 * interval)
