"""A run over time, in a file that stays small however long the run is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

#: The file in the run directory.
SERIES_FILE = "series.json"

#: Points that are kept at most: twice what a chart on a screen can show apart.
MOST_POINTS = 512

#: Seconds between two points at first, and between two writings of the file.
FIRST_INTERVAL_S, WRITE_INTERVAL_S = 1.0, 10.0

#: What each point has, in this order. The first ones only ever grow (seconds since the start, counts, seconds
#: of work); the others, bytes, go up and down.
GROWING = ("seconds", "tokens", "images", "records", "parsers_s", "model_s", "database_s")
LEVELS = ("in_flight", "supervisor", "parsers", "inference", "indexer")


class Series:
    """Points at even distances. When there are too many every two become one, and the distance doubles: of
    what grows the later counts, of what goes up and down the higher. About 200 KB of memory."""

    def __init__(self, run_dir: Path, run: int, buffer: int | None = None) -> None:
        self._path = run_dir / SERIES_FILE
        self._run = run
        self._began = time.time()
        self._interval = FIRST_INTERVAL_S
        self._written = 0.0
        self._points: list[tuple[float, ...]] = []
        #: Bytes that may be on their way.
        self.buffer = buffer

    def add(self, values: Mapping[str, float], last: bool = False) -> None:
        """Take a point, if it is time for one, and write the file, if it is time for that.

        The `last` one is taken and written in any case. A file that can't be written is let be: the run
        matters more, and what it has to write itself will tell.
        """
        seconds = values["seconds"]
        due = self._points[-1][0] + self._interval if self._points else 0.0
        if last or seconds >= due:
            if len(self._points) >= MOST_POINTS:
                self._halve()
            self._points.append(tuple(values[name] for name in (*GROWING, *LEVELS)))
        if last or seconds - self._written >= WRITE_INTERVAL_S:
            self._written = seconds
            with suppress(OSError):
                self._write()

    def _halve(self) -> None:
        pairs = zip(self._points[::2], self._points[1::2], strict=False)
        kept = len(GROWING)
        self._points = [(*b[:kept], *map(max, a[kept:], b[kept:])) for a, b in pairs]
        self._interval *= 2

    def _write(self) -> None:
        temporary = self._path.with_name(SERIES_FILE + ".new")
        told = {
            "run": self._run,
            "began": self._began,
            "interval_s": self._interval,
            "buffer": self.buffer,
            "columns": (*GROWING, *LEVELS),
            "points": self._points,
        }
        temporary.write_text(json.dumps(told), encoding="utf-8")
        temporary.replace(self._path)
