"""A run over time, in a file that stays small however long the run is."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

#: The file in the run directory.
SERIES_FILE = "series.json"

#: Points that are kept at most: twice what a chart on a screen can show apart.
MOST_POINTS = 512

#: Seconds between two points at first, and between two writings of the file.
FIRST_INTERVAL_S, WRITE_INTERVAL_S = 1.0, 10.0

#: How many fields of a sample only ever grow: of two samples the later count. The others go up and down.
GROWING = 7


class Sample(NamedTuple):
    """A run at one moment: seconds since its start, counts, busy seconds by stage; then bytes in flight, and
    the memory of each stage in bytes."""

    seconds: float
    tokens: float
    images: float
    records: float
    parsers_s: float
    model_s: float
    database_s: float
    in_flight: float
    supervisor: float
    parsers: float
    inference: float
    indexer: float


class Series:
    """Samples at even intervals. When there are too many, each two become one and the interval doubles: of
    fields that grow the later value is kept, of the others the higher. About 200 KB of memory."""

    def __init__(self, run_dir: Path, run: int, buffer: int | None = None) -> None:
        self._path = run_dir / SERIES_FILE
        self._run = run
        self._began = time.time()
        self._interval = FIRST_INTERVAL_S
        self._written = 0.0
        self._points: list[Sample] = []
        #: Bytes that may be in flight.
        self.buffer = buffer

    def add(self, sample: Sample, last: bool = False) -> None:
        """Keep a sample if one is due, and write the file if that is due; the `last` one in any case.

        A file that can't be written is not written: the run matters more, and its own files will fail then.
        """
        due = self._points[-1].seconds + self._interval if self._points else 0.0
        if last or sample.seconds >= due:
            if len(self._points) >= MOST_POINTS:
                self._halve()
            self._points.append(sample)
        if last or sample.seconds - self._written >= WRITE_INTERVAL_S:
            self._written = sample.seconds
            with suppress(OSError):
                self._write()

    def _halve(self) -> None:
        pairs = zip(self._points[::2], self._points[1::2], strict=False)
        self._points = [Sample(*b[:GROWING], *map(max, a[GROWING:], b[GROWING:])) for a, b in pairs]
        self._interval *= 2

    def _write(self) -> None:
        temporary = self._path.with_name(SERIES_FILE + ".new")
        content = {
            "run": self._run,
            "began": self._began,
            "interval_s": self._interval,
            "buffer": self.buffer,
            "columns": Sample._fields,
            "points": self._points,
        }
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self._path)
