"""Which file a parser is at, in memory that outlives it: it costs no message, and none of it can get lost."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from multiprocessing.reduction import DupFd
from typing import Any

from engine.runtime.process.descriptors import memory_file

#: Bytes of the one number.
WORD_BYTES = 8


class CurrentItem:
    """A number that a parser writes and the supervisor reads, also after the parser's death.

    It goes along with the arguments of a process that is started. Attempts are numbered from 1. `descriptor`
    is of the memory, which is made where none is given.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _memory() if descriptor is None else descriptor
        weakref.finalize(self, os.close, self._descriptor)
        # An aligned word is written in one go; negative when the attempt's parse call has ended.
        self._word = memoryview(mmap.mmap(self._descriptor, WORD_BYTES)).cast("q")

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self._descriptor),)

    def begin(self, attempt: int) -> None:
        """The parse call of this attempt begins now."""
        self._word[0] = attempt

    def end(self) -> None:
        """It has ended, or was left."""
        self._word[0] = -self.last

    @property
    def current(self) -> int:
        """The attempt at hand; 0 between two of them."""
        return max(0, self._word[0])

    @property
    def last(self) -> int:
        """The attempt that was begun last; 0 before the first."""
        return abs(self._word[0])


def _received(descriptor: Any) -> CurrentItem:
    return CurrentItem(descriptor.detach())


def _memory() -> int:
    """A file without a name, in memory where the system has such files."""
    descriptor = memory_file("at work", WORD_BYTES)
    if descriptor is None:
        with tempfile.TemporaryFile() as file:
            file.truncate(WORD_BYTES)
            descriptor = os.dup(file.fileno())
    return descriptor
