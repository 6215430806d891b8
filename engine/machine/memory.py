"""Samples the memory of the process tree during a run."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

#: The parts whose peaks are in `summary.json`.
STAGES = ("total", "supervisor", "parsers", "inference", "indexer")

#: Seconds between two readings of RSS, and of PSS, which costs up to 16 ms a GB: at first, and at most.
RSS_INTERVAL_S, FIRST_INTERVAL_S, LONGEST_INTERVAL_S = 0.5, 0.5, 5.0

#: Share of the limit above which each sample reads PSS.
NEAR_SHARE = 0.8


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


def rss_bytes(pid: int) -> int:
    """Resident set size of one process, in bytes, which is nearly free to read; 0 once it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def descendants(pid: int) -> list[int]:
    """The processes that a process and its children have started, in any of their threads; none where the
    system doesn't tell."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError, ValueError):  # it may end meanwhile
            found += map(int, thread.read_text().split())
    return [each for child in found for each in (child, *descendants(child))]


class MemorySampler:
    """A thread that samples the memory of each stage's processes and keeps the peaks, in bytes.

    `processes` gives the living processes as (stage, pid); the supervisor itself is added. Every
    `RSS_INTERVAL_S` the cheap resident size is read, and what it has changed by since the last PSS is added
    to that; the PSS itself every few seconds, and always while the total is above `NEAR_SHARE` of `limit`
    bytes. `trace` gets a line of JSON for each sample: seconds since the start, whether each PSS was read
    (`exact`), and bytes by stage.
    """

    def __init__(
        self,
        processes: Callable[[], list[tuple[str, int]]],
        limit: int | None = None,
        trace: IO[str] | None = None,
    ) -> None:
        self._processes = processes
        self._trace = trace
        self._done = threading.Event()
        self._started = time.monotonic()
        #: Of each process (PSS at its last reading, RSS then).
        self._known: dict[int, tuple[int, int]] = {}
        #: Bytes that the processes shall not pass.
        self.limit = limit
        #: Highest sum over a stage's processes, and over all (`total`), in one sample; 0 for what never ran.
        self.peaks = dict.fromkeys(STAGES, 0)
        #: CPU seconds that the sampling has taken.
        self.cpu_s = 0.0
        #: The newest sum over all.
        self.total = 0
        #: The newest of each process.
        self.processes: dict[int, int] = {}
        #: The newest sum of each stage, and `total`; none before the first sample.
        self.stages: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def start(self) -> None:
        """Begin sampling, with one sample now: a run may end before the next."""
        self.sample()
        self._thread.start()

    def sample(self, exact: bool = True) -> None:
        """Take one sample now: `exact` reads each PSS, otherwise that of processes not seen before alone."""
        sums: dict[str, int] = {}
        newest: dict[int, int] = {}
        for stage, pid in [("supervisor", os.getpid()), *self._processes()]:
            newest[pid] = self._measure(pid, exact)
            sums[stage] = sums.get(stage, 0) + newest[pid]
        self._known = {pid: self._known[pid] for pid in newest if pid in self._known}
        self.processes = newest
        sums["total"] = self.total = sum(sums.values())
        self.stages = sums
        for stage, size in sums.items():
            self.peaks[stage] = max(self.peaks.get(stage, 0), size)
        if self._trace is not None:
            seconds = round(time.monotonic() - self._started, 3)
            with suppress(OSError, ValueError):  # a trace is less important than the run
                self._trace.write(json.dumps({"seconds": seconds, "exact": exact, **sums}) + "\n")
                self._trace.flush()

    def _measure(self, pid: int, exact: bool) -> int:
        rss = rss_bytes(pid)
        if exact or pid not in self._known:
            self._known[pid] = (pss_bytes(pid), rss)
            return self._known[pid][0]
        pss, rss_then = self._known[pid]
        return max(0, pss + rss - rss_then) if rss else 0

    def stop(self) -> None:
        """End sampling."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        # Soon at first, because a run may be short.
        pause, exact_at = FIRST_INTERVAL_S, 0.0
        while not self._done.wait(RSS_INTERVAL_S):
            now = time.monotonic()
            near = self.limit is not None and self.total > NEAR_SHARE * self.limit
            exact = near or now >= exact_at
            if exact:
                exact_at, pause = now + pause, min(LONGEST_INTERVAL_S, 1.5 * pause)
            self.sample(exact)
            self.cpu_s = time.thread_time()
