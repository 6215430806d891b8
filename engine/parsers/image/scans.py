"""How much of a progressive JPEG has to be decoded for a picture that is made much smaller.

Such a file brings its coefficients in scans: low frequencies before high ones, and their leading bits before
the others (ITU-T T.81, annex G). A picture that is decoded at half its size or less has no use for high
frequencies, and one that is resized afterwards little for the last bits, which are most of the file and of
the time that it takes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import IO, TYPE_CHECKING

from engine.parsers.reading import BLOCK_BYTES

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The highest place in zigzag order (T.81, figure A.6) of a coefficient that is needed where a block of 8 x 8
#: becomes one of so many pixels along each side: of as many frequencies. A mean needs no other, but without
#: any libjpeg-turbo blurs the means themselves (jdcoefct.c, `change_dc`).
HIGHEST = {8: 63, 4: 24, 2: 4, 1: 1}

#: What a coefficient may lack, where 8 in the first one are a level of a block's mean. Measured on photos
#: saved at qualities of 75 to 100, with 700 to 2,800 pixels a side, brought to 224: lowest cosine to those of
#: all scans 0.9992 of pixels (their mean taken off), 0.99993 of a ViT-B/32's vectors; at 4 0.9987, 0.99989.
SPARED = 3

#: Most scans that are told apart; encoders make some twenty at most.
MAX_SCANS = 100

START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"

# Quantisation tables, which may change from scan to scan, and the beginning of another JPEG.
_TABLES, _START_OF_IMAGE = b"\xff\xdb", b"\xff\xd8"

# What decoders look for next: neither a byte of data, nor a restart, nor one that fills.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")

# Other segments than scans are short.
_SEARCHED_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Component:
    """A component of which a block becomes so many pixels along each side, with its steps of quantisation.

    They are those of a block's mean and of the lowest frequencies: errors in the others vanish when a picture
    is made small.
    """

    pixels: int
    mean_step: int
    low_step: int


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

    def is_needed(self, components: Mapping[int, Component]) -> bool:
        """Whether one of these, by their numbers, needs what it brings, or it is of one that isn't known."""
        return any(self._is_needed_by(components.get(number)) for number in self.components)

    def _is_needed_by(self, component: Component | None) -> bool:
        if component is None:
            return True
        if self.first > HIGHEST[component.pixels]:
            return False
        step = component.low_step if self.first else component.mean_step
        return self.high == 0 or (2**self.high - 1) * step > SPARED


def more_scans_than(file: IO[bytes], most: int) -> bool:
    """Whether a JPEG may have more scans: their marker stands nowhere in their data.

    The file is left where it was.
    """
    at, count, last = file.tell(), 0, b""
    file.seek(0)
    while count <= most and (block := file.read(BLOCK_BYTES)):
        count += (last + block).count(START_OF_SCAN)
        last = block[-1:]
    file.seek(at)
    return count > most


def scans(file: IO[bytes]) -> list[Scan]:
    """The scans of a JPEG, in order; none where it isn't whole, or they can't be told for certain.

    The file is left where it was.
    """
    at = file.tell()
    found: list[Scan] = []
    place = 2
    while True:
        marker, place = _next_marker(file, place)
        if marker == END_OF_IMAGE:
            break
        length = int.from_bytes(file.read(2))
        if marker == START_OF_SCAN:
            header = file.read(max(0, length - 2))
            if len(found) == MAX_SCANS or len(header) < 6 or len(header) != 2 * header[0] + 4:
                found = []
                break
            found.append(Scan(place, header[1:-3:2], header[-3], header[-1] >> 4))
        elif length < 2 or marker == _START_OF_IMAGE or (found and marker == _TABLES):
            found = []
            break
        place += 2 + length
    file.seek(at)
    return found


def components(
    layers: Sequence[tuple[int, int, int, int]], tables: Mapping[int, Sequence[int]], scale: int
) -> dict[int, Component]:
    """By their numbers those that have a table, for a picture of 1/`scale` of its size.

    A layer is its number, its samples across and down, and the number of its table; tables are by rows.
    """
    across, down = (max((layer[side] for layer in layers), default=1) for side in (1, 2))
    found: dict[int, Component] = {}
    for number, width, height, table in layers:
        # Instead of making coarser colours finer afterwards, libjpeg scales them down less (jdmaster.c).
        pixels, times = 8 // scale, 2
        while pixels < 8 and across >= times * width and down >= times * height:
            pixels, times = 2 * pixels, 2 * times
        if table in tables:
            steps = tables[table]
            found[number] = Component(pixels, steps[0], max(steps[1], steps[8]))
    return found


def end_of_needed(found: Sequence[Scan], components: Mapping[int, Component]) -> int | None:
    """At which byte the file may end for a picture of these components; None if all is needed."""
    spared = takewhile(lambda scan: not scan.is_needed(components), reversed(found))
    return min((scan.begin for scan in spared), default=None)


def _next_marker(file: IO[bytes], place: int) -> tuple[bytes, int]:
    """The next from there on, and where; the file is left behind it. Empty at the file's end."""
    last = b""
    file.seek(place)
    while block := file.read(_SEARCHED_BYTES):
        if match := _MARKER.search(last + block):
            place += match.start() - len(last)
            file.seek(place + 2)
            return match[0], place
        place += len(block)
        last = block[-1:]
    return b"", place


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
