"""Measures a run's speed: when embedding began and ended, on which devices, and how fast these are alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import psutil

from engine.records import Kind
from engine.runtime.ledger.counts import Counts
from engine.runtime.limits.cgroup import usable_cores
from engine.runtime.process.stats import Stats
from engine.runtime.report.efficiency import Observed

Value = TypeVar("Value")


class Speed:
    """Keeps what inference processes report, and the window from the first batch to the last write."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cores = usable_cores()
        self._first: float | None = None
        #: Without the seconds of the window in which a model was timed.
        self._last: float | None = None
        #: By lane and kind.
        self._devices: dict[tuple[str, Kind], str] = {}
        self._rates: dict[tuple[str, Kind], float] = {}
        #: Core-seconds that all programs had spent on this process's cores when the first batch began.
        self._spent = 0.0
        #: Seconds of the window in which a model was timed, and when that ended last.
        self._calibrated_s = self._calibrated_at = 0.0
        #: The lanes whose model is being timed; nothing new may start there meanwhile.
        self.calibrating: set[str] = set()

    def wrote(self) -> None:
        """A segment was acknowledged."""
        self._last = time.monotonic() - self._calibrated_s

    def loaded(self, lane: str, kind: Kind, device: str) -> None:
        """A lane's model for this kind is loaded, and computed by this device."""
        self._devices[lane, kind] = device

    def calibrated(self, lane: str, kind: Kind, rate: float | None, seconds: float) -> None:
        """A lane's model alone embeds `rate` tokens or pictures a second (None: not known); timing it took
        `seconds`."""
        self.calibrating.discard(lane)
        if rate is not None:
            self._rates[lane, kind] = rate
        if self._first is not None:
            # Several lanes may do so at once.
            now = time.monotonic()
            self._calibrated_s += now - max(now - seconds, self._calibrated_at)
            self._calibrated_at = now

    def first_batch(self, at: float) -> bool:
        """An inference process began at this moment; whether it was the first that did."""
        if self._first is not None:
            return False
        self._first, self._spent = at, _spent_by_all()
        return True

    def forget(self, lane: str) -> None:
        """Drop what this inference process reported: it has ended."""
        self.calibrating.discard(lane)
        self._devices = {key: device for key, device in self._devices.items() if key[0] != lane}
        self._rates = {key: rate for key, rate in self._rates.items() if key[0] != lane}

    def observed(self, counts: Counts, stages: Mapping[str, Stats], workers: int | None = None) -> Observed:
        """All that is known by now; `stages` since the first batch. `workers`: so many parsers might be."""
        now = time.monotonic()
        return Observed(
            seconds=now - self._started - self._calibrated_s,
            first_s=None if self._first is None else self._first - self._started,
            last_s=None if self._last is None else self._last - self._started,
            cores=self._cores,
            items={
                "text": counts.computed_tokens,
                "image": counts.computed_images,
            },
            stages=stages,
            devices=self._by_kind(self._devices, lambda names: ", ".join(sorted({*names}))),
            rates=self._by_kind(self._rates, sum),
            files=counts.discovered - counts.unchanged - counts.skipped,
            others_share=self._others_share(now, stages),
            workers=workers,
        )

    @staticmethod
    def _by_kind(
        values: Mapping[tuple[str, Kind], Value], together: Callable[[list[Value]], Value]
    ) -> dict[Kind, Value]:
        """What all lanes have together."""
        kinds = {kind for _, kind in values}
        return {kind: together([each for (_, of), each in values.items() if of == kind]) for kind in kinds}

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
