"""Which file a parser is at, in memory that outlives it: it costs no message, and none of it can get lost."""

from __future__ import annotations

import ctypes
from multiprocessing.sharedctypes import RawValue


class AtWork:
    """A number that a parser writes and the supervisor reads, also after the parser's death.

    It goes along with the arguments of a process that is started. Attempts are numbered from 1.
    """

    def __init__(self) -> None:
        # An aligned word is written in one go; negative when the attempt's parse call has ended.
        self._word = RawValue(ctypes.c_int64, 0)

    def begin(self, attempt: int) -> None:
        """The parse call of this attempt begins now."""
        self._word.value = attempt

    def end(self) -> None:
        """It has ended, or was left."""
        self._word.value = -self.last

    @property
    def current(self) -> int:
        """The attempt at hand; 0 between two of them."""
        return max(0, self._word.value)

    @property
    def last(self) -> int:
        """The attempt that was begun last; 0 before the first."""
        return abs(self._word.value)
