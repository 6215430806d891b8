"""Watches a run for its speed: when the work began and ended, on what, and who spent how long on it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from engine.records import Kind
from engine.runtime import messages as m
from engine.runtime.accounts import Counts
from engine.runtime.cgroup import usable_cores
from engine.runtime.light import Observed
from engine.runtime.pipeline import Pipeline
from engine.runtime.stats import Stats


class Speed:
    """Notes what the inference process says of its models, and the window of the work."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cores = usable_cores()
        self._first: float | None = None
        self._last: float | None = None
        self._devices: dict[Kind, str] = {}
        self._rates: dict[Kind, float] = {}
        #: Seconds of the window in which a model was timed.
        self._calibrated_s = 0.0
        #: A model is being timed, beside which nothing new shall be begun.
        self.calibrating = False

    def note(self, message: object, pipeline: Pipeline) -> None:
        """What a process says; whatever has nothing to do with speed is passed over."""
        if isinstance(message, m.SegmentWritten):
            self._last = time.monotonic()
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
            self._first = message.at
            pipeline.mark()

    def forget(self) -> None:
        """The process that was timing a model is gone."""
        self.calibrating = False

    def observed(self, counts: Counts, stages: Mapping[str, Stats]) -> Observed:
        """All that is known by now; `stages` since the first batch."""
        last = self._last if self._first is None or self._last is None else self._last - self._calibrated_s
        return Observed(
            seconds=time.monotonic() - self._started,
            first_s=None if self._first is None else self._first - self._started,
            last_s=None if last is None else last - self._started,
            cores=self._cores,
            items={"text": counts.tokens, "image": counts.image_chunks},
            stages=stages,
            devices=dict(self._devices),
            rates=dict(self._rates),
            files=counts.discovered - counts.unchanged - counts.skipped,
        )
