"""How much of a progressive JPEG has to be decoded for a picture that is made much smaller.

Such a file brings its coefficients in scans: low frequencies before high ones, and their leading bits before
the others (ITU-T T.81, annex G). A picture that is decoded at half its size or less has no use for high
frequencies, and one that is resized afterwards little for the last bits, which are most of the file and of
the time that it takes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import IO, TYPE_CHECKING, TypeAlias

from engine.parsers.reading import BLOCK_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The highest place in zigzag order (T.81, figure A.6) of a coefficient that is used at 1, 1/2, 1/4 and 1/8
#: of the size: of 8 x 8, 4 x 4, 2 x 2 and 1 x 1 in a block.
HIGHEST = {1: 63, 2: 24, 4: 4, 8: 0}

#: What a coefficient may lack, where 8 in the first one are a level of a block's mean. Measured on photos
#: saved at qualities of 75 to 100, with 700 to 2,800 pixels a side, brought to 224: lowest cosine to those of
#: all scans 0.9992 of pixels (their mean taken off), 0.99993 of a ViT-B/32's vectors; at 4 0.9987, 0.99989.
SPARED = 3

#: By a component's number its steps of quantisation: of a block's mean, and of the lowest frequency.
Steps: TypeAlias = Mapping[int, tuple[int, int]]

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan that begins at this byte of its file, as T.81, B.2.3 and G.1.1 tell of it.

    It brings to the `components` of these numbers the coefficients from `first` on. `high` bits of them were
    lacking before; 0 where this is the first scan of theirs.
    """

    begin: int
    components: bytes
    first: int
    high: int

    def is_needed(self, scale: int, steps: Steps) -> bool:
        """Whether a picture of 1/`scale` of its size is to have what it brings.

        The steps of quantisation are those of a block's mean and of the lowest frequencies: errors in the
        others vanish when a picture is made small.
        """
        if self.first > HIGHEST[scale]:
            return False
        step = max(steps[number][self.first > 0] for number in self.components)
        return self.high == 0 or (2**self.high - 1) * step > SPARED


def scans(file: IO[bytes], most: int) -> tuple[list[Scan], bool]:
    """The scans of a JPEG, so many at most, and whether they are all of them, in order, and its end is there.

    The file is left where it was.
    """
    at = file.tell()
    found: list[Scan] = []
    first = _first_scan(file)
    whole = first is not None
    begin = first if whole else _find(file, START_OF_SCAN, 2)
    while begin is not None and len(found) < most:
        file.seek(begin + 2)
        header = file.read(max(0, int.from_bytes(file.read(2)) - 2))
        if whole := whole and len(header) >= 6 and len(header) == 2 * header[0] + 4:
            found.append(Scan(begin, header[1:-3:2], header[-3], header[-1] >> 4))
        else:
            found.append(Scan(begin, b"", 0, 0))
        begin = _find(file, START_OF_SCAN, begin + 2)
    whole = whole and begin is None and _find(file, END_OF_IMAGE, found[-1].begin) is not None
    file.seek(at)
    return found, whole


def end_of_needed(found: Sequence[Scan], scale: int, steps: Steps) -> int | None:
    """At which byte the file may end for a picture of 1/`scale` of its size; None if all is needed."""
    spared = takewhile(lambda scan: not scan.is_needed(scale, steps), reversed(found))
    return min((scan.begin for scan in spared), default=None)


def _first_scan(file: IO[bytes]) -> int | None:
    """Where it begins: behind the metadata, where a thumbnail has its own. None where that isn't clear."""
    file.seek(2)
    while len(marker := file.read(2)) == 2 and marker[0] == 0xFF:
        if marker == START_OF_SCAN:
            return file.tell() - 2
        if marker[1] == 0xFF:
            file.seek(-1, 1)  # a byte between two markers
        else:
            file.seek(max(0, int.from_bytes(file.read(2)) - 2), 1)
    return None


def _find(file: IO[bytes], marker: bytes, begin: int) -> int | None:
    """Where a marker stands next; none stands in a scan's data or in its tables."""
    file.seek(begin)
    last = b""
    while block := file.read(BLOCK_BYTES):
        if (place := (last + block).find(marker)) >= 0:
            return begin - len(last) + place
        begin += len(block)
        last = block[-1:]
    return None


class Until(io.RawIOBase):
    """A JPEG that ends, as all do, at this byte of its file."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file = file
        self._end = end
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """As files have it."""
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET, /) -> int:
        """As files have it, from the beginning or from where they are."""
        self._place = place if whence == io.SEEK_SET else self._place + place
        return self._place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As files have it."""
        view = memoryview(buffer)
        if self._place < self._end:
            self._file.seek(self._place)
            block = self._file.read(min(len(view), self._end - self._place))
        else:
            block = END_OF_IMAGE[self._place - self._end :][: len(view)]
        view[: len(block)] = block
        self._place += len(block)
        return len(block)
