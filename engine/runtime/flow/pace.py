"""How many files wait in a parser's own queue: a moment's work, so that one commit and one message hand over
many small files, and none of them waits long behind another while other parsers have nothing to do. And how
much each of them is for a device."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from engine.stages.parse import FileJob

#: Seconds of work that may wait behind the file at hand.
QUEUED_S = 0.2

#: Files with a parser at most; bytes of those that wait.
QUEUED_FILES, QUEUED_BYTES = 1024, 16 * 2**20

#: Seconds that a file is thought to take while nothing is known of its kind: few of them wait, and none that
#: is larger than this.
UNKNOWN_S, UNKNOWN_BYTES = QUEUED_S / 4, 256 * 2**10

#: Bytes up to which the size of a file makes no difference.
LIGHT_BYTES = 4096

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
        return self.files > 0 and seconds <= self.seconds and size <= self.size

    def take(self, seconds: float, size: int) -> None:
        """One more waits."""
        self.files, self.seconds, self.size = self.files - 1, self.seconds - seconds, self.size - size


class Usual(NamedTuple):
    """What files of a kind are like: the seconds that they take, their bytes, and those of their segments."""

    seconds: float
    size: float
    emitted: float


class Pace:
    """How long files take to parse and what they become, by the ending of their names and the last ones of
    each."""

    def __init__(self) -> None:
        self._usual: dict[str, Usual] = {}

    def expected(self, path: str, size: int) -> float:
        """Seconds that this file of so many bytes will take: in proportion, where it is larger than usual."""
        if (usual := self._usual.get(_kind(path))) is None:
            return UNKNOWN_S if size <= UNKNOWN_BYTES else math.inf
        return usual.seconds * max(1.0, size / max(LIGHT_BYTES, usual.size))

    def emits(self, path: str, size: int) -> int:
        """Bytes of the segments that this file of so many bytes will become."""
        usual = self._usual.get(_kind(path))
        return size if usual is None else round(usual.emitted * size / max(1.0, usual.size))

    def parsed(self, path: str, size: int, seconds: float, emitted: int) -> None:
        """This file of so many bytes took so long, and became segments of `emitted` bytes."""
        kind = _kind(path)
        usual = self._usual.get(kind)
        if usual is None:
            if len(self._usual) >= KINDS:
                del self._usual[next(iter(self._usual))]
            usual = Usual(max(seconds, UNKNOWN_S), size, emitted)  # one that is quick may be an exception
        seen = Usual(seconds, size, emitted)
        self._usual[kind] = Usual(*(old + WEIGHT * (new - old) for old, new in zip(usual, seen, strict=True)))

    def room(self, jobs: Sequence[FileJob]) -> Room:
        """What the queue of a parser takes that has these files; the first is thought to be at hand."""
        if jobs and self.expected(jobs[0].item.location, jobs[0].item.size) > QUEUED_S:
            return Room(0, 0.0, 0)
        room = Room(QUEUED_FILES - min(1, len(jobs)), QUEUED_S, QUEUED_BYTES)
        for job in islice(jobs, 1, None):
            room.take(self.expected(job.item.location, job.item.size), job.item.size)
        return room


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].lower()
