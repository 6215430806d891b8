"""Pictures on their way from a parser to the inference process, in memory that both have mapped.

The supervisor makes a picture buffer for each parser, of a memory file without a name: nothing is left
behind whoever is killed, and the size of `/dev/shm` doesn't matter. Where a system has no such files, or a
picture buffer is full, pictures travel inside their segment instead.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass

import numpy as np

from engine.records import Pixels
from engine.runtime.process.descriptors import memory_file
from engine.stages.segment import PictureSegment, Segment

#: Bytes of a picture buffer: 55 pictures of 224 x 224.
BUFFER_BYTES = 8 * 2**20

#: Most places of a picture buffer.
MOST_PLACES = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture stands, and its shape (height, width, 3)."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlacedPicture(Segment):
    """A picture segment on its way whose pixels stay behind, in a picture buffer."""

    kind = "image"

    place: Place

    def arrived(self, buffer: SharedPictureBuffer) -> PictureSegment:
        """The segment with its pixels, whose place is free again."""
        # A copy, so that the place can be used for the next one; credits bound how many wait.
        pixels = buffer.look(self.place).copy()
        buffer.free(self.place)
        return PictureSegment(**self.shared(), pixels=pixels)


def placed(segment: PictureSegment, buffer: SharedPictureBuffer) -> PictureSegment | PlacedPicture:
    """The segment with its pixels in the buffer, or as it is where that is full."""
    place = buffer.put(segment.pixels)
    return segment if place is None else PlacedPicture(**segment.shared(), place=place)


class Descriptor:
    """An open file, as far as handing it over needs one."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Its number in this process."""
        return self._number

    def close(self) -> None:
        """Close it here."""
        os.close(self._number)


def make_picture_buffer() -> int | None:
    """A descriptor of the memory of one picture buffer; None where the system has no memory files."""
    return memory_file("pictures", mmap.PAGESIZE + BUFFER_BYTES)


class SharedPictureBuffer:
    """One side's view of a picture buffer for pictures of `picture_bytes` each.

    The first page holds a byte for each place: 1 from `put`, which the parser calls, to `free`, which the
    inference process calls when it has taken the picture. Nobody else writes either of the two, and the
    picture's place crosses by a pipe in between, so that no lock is needed that a dead process could hold.
    """

    def __init__(self, descriptor: int, picture_bytes: int) -> None:
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE + BUFFER_BYTES)
        os.close(descriptor)
        self._bytes = picture_bytes
        self.places = min(MOST_PLACES, BUFFER_BYTES // picture_bytes)

    def put(self, pixels: Pixels) -> Place | None:
        """Stand a picture, uint8 [height, width, 3], on a free place; None where there is none for it."""
        number = self._memory.find(b"\0", 0, self.places)
        if number < 0:
            return None
        start = self._start(number)
        self._memory[start : start + pixels.nbytes] = pixels.tobytes()
        self._memory[number] = 1
        return Place(number, pixels.shape)

    def look(self, place: Place) -> Pixels:
        """The picture there, as a view that must be given up before the place is freed."""
        count = int(np.prod(place.shape))
        flat = np.frombuffer(self._memory, dtype=np.uint8, count=count, offset=self._start(place.number))
        return flat.reshape(place.shape)

    def free(self, place: Place) -> None:
        """The picture there is no longer needed."""
        self._memory[place.number] = 0

    def _start(self, number: int) -> int:
        return mmap.PAGESIZE + number * self._bytes
