"""Which file a parser is at, and where in it, in memory that outlives it: it costs no message, and none of it
can get lost."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from multiprocessing.reduction import DupFd
from typing import Any

from engine.runtime.process.descriptors import memory_file

#: The numbers: the attempt, what part of the file has been read, the page.
ATTEMPT, SHARE, PAGE = range(3)

#: Bytes of them all.
SIZE = 3 * 8

#: Of how many parts of a file the number for the share counts.
PARTS = 2**30


class CurrentItem:
    """Numbers that a parser writes and the supervisor reads, also after the parser's death.

    It goes along with the arguments of a process that is started. Attempts are numbered from 1. `descriptor`
    is of the memory, which is made where none is given.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _memory() if descriptor is None else descriptor
        weakref.finalize(self, os.close, self._descriptor)
        # An aligned word is written in one go; negative when the attempt's parse call has ended.
        self._words = memoryview(mmap.mmap(self._descriptor, SIZE)).cast("q")

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self._descriptor),)

    def begin(self, attempt: int) -> None:
        """The parse call of this attempt begins now."""
        self._words[SHARE] = self._words[PAGE] = 0
        self._words[ATTEMPT] = attempt

    def came_to(self, share: float) -> None:
        """This part of the file has been read, from 0 to 1."""
        self._words[SHARE] = int(share * PARTS)

    def emitted(self, page: int | None) -> None:
        """A piece of this page has left the parser."""
        self._words[PAGE] = page or 0

    def end(self) -> None:
        """It has ended, or was left."""
        self._words[ATTEMPT] = -self.last

    @property
    def current(self) -> int:
        """The attempt at hand; 0 between two of them."""
        return max(0, self._words[ATTEMPT])

    @property
    def last(self) -> int:
        """The attempt that was begun last; 0 before the first."""
        return abs(self._words[ATTEMPT])

    @property
    def share(self) -> float:
        """What part of the file has been read, from 0 to 1; 0 where the format can't tell."""
        return float(self._words[SHARE] / PARTS)

    @property
    def page(self) -> int | None:
        """The page of what left the parser last; None before that, and where there are no pages."""
        return self._words[PAGE] or None


def _received(descriptor: Any) -> CurrentItem:
    return CurrentItem(descriptor.detach())


def _memory() -> int:
    """A file without a name, in memory where the system has such files."""
    descriptor = memory_file("at work", SIZE)
    if descriptor is None:
        with tempfile.TemporaryFile() as file:
            file.truncate(SIZE)
            descriptor = os.dup(file.fileno())
    return descriptor
