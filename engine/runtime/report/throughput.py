"""Watches a run for its speed: when the work began and ended, on what, and who spent how long on it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import psutil

from engine.records import Kind
from engine.runtime.ledger.accounts import Counts
from engine.runtime.limits.cgroup import usable_cores
from engine.runtime.pipeline import Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.stats import Stats
from engine.runtime.report.efficiency import Observed


class Speed:
    """Notes what the inference process says of its models, and the window of the work."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cores = usable_cores()
        self._first: float | None = None
        #: Without the seconds of the window in which a model was timed.
        self._last: float | None = None
        self._devices: dict[Kind, str] = {}
        self._rates: dict[Kind, float] = {}
        #: Core-seconds that all programs had spent on this process's cores when the first batch began.
        self._spent = 0.0
        #: Seconds of the window in which a model was timed.
        self._calibrated_s = 0.0
        #: A model is being timed, beside which nothing new shall be begun.
        self.calibrating = False

    def note(self, message: object, pipeline: Pipeline) -> None:
        """What a process says; whatever has nothing to do with speed is passed over."""
        if isinstance(message, m.SegmentWritten):
            self._last = time.monotonic() - self._calibrated_s
        elif isinstance(message, m.Loaded):
            self._devices[message.kind] = message.device
        elif isinstance(message, m.Calibrating):
            self.calibrating = True
        elif isinstance(message, m.Calibrated):
            self.calibrating = False
            if message.rate is not None:
                self._rates[message.kind] = message.rate
            if self._first is not None:
                self._calibrated_s += message.seconds
        elif isinstance(message, m.FirstBatch) and self._first is None:
            self._first, self._spent = message.at, _spent_by_all()
            pipeline.mark()

    def forget(self) -> None:
        """The process that was timing a model is gone."""
        self.calibrating = False

    def observed(self, counts: Counts, stages: Mapping[str, Stats], workers: int | None = None) -> Observed:
        """All that is known by now; `stages` since the first batch. `workers`: so many parsers might be."""
        now = time.monotonic()
        return Observed(
            seconds=now - self._started - self._calibrated_s,
            first_s=None if self._first is None else self._first - self._started,
            last_s=None if self._last is None else self._last - self._started,
            cores=self._cores,
            items={
                "text": counts.tokens - counts.spared_tokens,
                "image": counts.image_chunks - counts.spared_pictures,
            },
            stages=stages,
            devices=dict(self._devices),
            rates=dict(self._rates),
            files=counts.discovered - counts.unchanged - counts.skipped,
            others_share=self._others_share(now, stages),
            workers=workers,
        )

    def _others_share(self, now: float, stages: Mapping[str, Stats]) -> float:
        """The share of the cores that other programs had since the first batch."""
        if self._first is None or now <= self._first:
            return 0.0
        ours = sum(stats.cpu_s for stats in stages.values())
        others = _spent_by_all() - self._spent - ours
        return min(1.0, max(0.0, others / (self._cores * (now - self._first))))


def _spent_by_all() -> float:
    """Core-seconds that the cores that this process may use have worked since the machine started."""
    usable = os.sched_getaffinity(0)
    return sum(
        each.user + each.system for core, each in enumerate(psutil.cpu_times(percpu=True)) if core in usable
    )
