"""How many files wait in a parser's own queue: a moment's work, so that one commit and one message hand over
many small files, and none of them waits long behind another while other parsers have nothing to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from engine.stages.parse import FileJob

#: Seconds of work that may wait behind the file at hand.
QUEUED_S = 0.2

#: Files with a parser at most; bytes of those that wait, together and each. None waits behind a larger file.
QUEUED_FILES, QUEUED_BYTES, QUEUED_FILE_BYTES = 64, 2**20, 256 * 2**10

#: Seconds that a file is thought to take while nothing is known of its kind: few of them wait.
UNKNOWN_S = QUEUED_S / 4

#: Kinds of file, told by the ending of the name, that are remembered; and how much the last file counts.
KINDS, WEIGHT = 64, 0.25


@dataclass(slots=True)
class Room:
    """What a parser's queue still takes."""

    files: int
    seconds: float
    size: int

    def fits(self, seconds: float, size: int) -> bool:
        """Whether a file of so many bytes that takes so long has room."""
        return self.files > 0 and seconds <= self.seconds and size <= min(self.size, QUEUED_FILE_BYTES)

    def take(self, seconds: float, size: int) -> None:
        """One more waits."""
        self.files, self.seconds, self.size = self.files - 1, self.seconds - seconds, self.size - size


class Pace:
    """How long files take to parse, by the ending of their names and the last ones of each."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def expected(self, path: str) -> float:
        """Seconds that this file will take."""
        return self._seconds.get(_kind(path), UNKNOWN_S)

    def parsed(self, path: str, seconds: float) -> None:
        """This file took so long."""
        kind = _kind(path)
        before = self._seconds.get(kind)
        if before is None:
            if len(self._seconds) >= KINDS:
                del self._seconds[next(iter(self._seconds))]
            before = max(seconds, UNKNOWN_S)  # one that is quick may be an exception
        self._seconds[kind] = before + WEIGHT * (seconds - before)

    def room(self, jobs: Sequence[FileJob]) -> Room:
        """What the queue of a parser takes that has these files, the one at hand first."""
        if any(job.size > QUEUED_FILE_BYTES for job in jobs):
            return Room(0, 0.0, 0)
        room = Room(QUEUED_FILES - min(1, len(jobs)), QUEUED_S, QUEUED_BYTES)
        for job in islice(jobs, 1, None):
            room.take(self.expected(job.path), job.size)
        return room


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].lower()
