"""Measures how far a run has come, from its parts."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from engine.runtime.flow.intake import Intake
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.pipeline import Pipeline
from engine.runtime.report.progress import Progress
from engine.runtime.report.total import CorpusTotal

#: Seconds over which rates, and from them the time that is left, are measured.
WINDOW_S = 30.0

#: Seconds, and share of all bytes, from which on they say how much time is left.
LEAST_S, LEAST_SHARE = 2.5, 0.002


@dataclass(frozen=True, slots=True)
class _Sums:
    """What was done by a moment, by the monotonic clock."""

    at: float
    size: float
    tokens: int
    images: int


class Gauge:
    """Looks at the parts of a run and changes none of them."""

    def __init__(self, accounts: Accounts, intake: Intake, pipeline: Pipeline, total: CorpusTotal) -> None:
        self._accounts = accounts
        self._intake = intake
        self._pipeline = pipeline
        self._total = total
        self._window: deque[_Sums] = deque()

    def look(self, trouble: str | None = None) -> Progress:
        """How far the run has come. `trouble`: why the database doesn't answer."""
        counts, total = self._accounts.counts, self._total
        slots = [slot for _, slot in self._pipeline.slots]
        shares = {slot.current_item.current: slot.current_item.share for slot in slots}
        done = counts.bytes_done + self._accounts.embedded_bytes.size(shares)
        if self._intake.listed:
            total.stop()
            whole = counts.bytes_found
        else:
            whole = max(counts.bytes_found, total.size)
        known = self._intake.listed or total.ended
        tokens, images, eta = self._rates(done, whole)
        # Where nothing has come of any item, models are still to be loaded, or tuned.
        starting = not (counts.text_chunks or counts.image_chunks) and bool(counts.pending or not known)
        jobs = [
            (job.attempt, job.item.uri, slot.current_item.page) for slot in slots if (job := slot.current)
        ]
        _, uri, page = min(jobs, default=(0, *self._accounts.latest))
        return Progress(
            bytes_done=int(min(done, whole)),
            bytes_total=whole,
            total_known=known,
            starting=starting,
            files=counts.discovered - counts.pending,
            failed=counts.failed + counts.partial,
            tokens_per_s=round(tokens, 3),
            images_per_s=round(images, 3),
            eta_s=eta,
            item=None if starting else uri.rpartition("/")[2] or None,
            page=page,
            trouble=trouble,
        )

    def _rates(self, done: float, whole: int) -> tuple[float, float, float | None]:
        """Tokens and pictures computed a second within the window, and seconds that are left at the rate at
        which bytes were done there."""
        counts, now, window = self._accounts.counts, time.monotonic(), self._window
        tokens, images = counts.computed_tokens, counts.computed_images
        if not (tokens or images):
            # Before the first vector nothing is worth measuring: models are loaded.
            window.clear()
        window.append(_Sums(now, done, tokens, images))
        while now - window[0].at > WINDOW_S:
            window.popleft()
        first = window[0]
        seconds = now - first.at
        if seconds <= 0:
            return 0.0, 0.0, None
        gained = done - first.size
        telling = seconds >= LEAST_S and gained >= LEAST_SHARE * whole > 0
        eta = round((whole - done) / gained * seconds, 1) if telling and whole > done else None
        return (tokens - first.tokens) / seconds, (images - first.images) / seconds, eta
