"""Pictures cross by shared memory as they are, and leave their places free."""

from __future__ import annotations

import os

import numpy as np
import pytest

from engine.records import Pixels
from engine.runtime.process.shared_pictures import (
    BUFFER_BYTES,
    Descriptor,
    SharedPictureBuffer,
    make_picture_buffer,
)

SIDE = 224


@pytest.fixture
def sides() -> tuple[SharedPictureBuffer, SharedPictureBuffer]:
    """The parser's and the inference process's view of one picture buffer."""
    descriptor = make_picture_buffer()
    assert descriptor is not None
    bytes_each = 3 * SIDE * SIDE
    return SharedPictureBuffer(os.dup(descriptor), bytes_each), SharedPictureBuffer(descriptor, bytes_each)


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def test_a_picture_is_the_same_on_the_other_side(
    sides: tuple[SharedPictureBuffer, SharedPictureBuffer],
) -> None:
    parser, inference = sides
    places = [parser.put(picture(seed)) for seed in range(3)]
    for seed, place in enumerate(places):
        assert place is not None
        assert np.array_equal(inference.look(place), picture(seed))


def test_a_full_shelf_takes_no_more_until_a_place_is_freed(
    sides: tuple[SharedPictureBuffer, SharedPictureBuffer],
) -> None:
    parser, inference = sides
    places = [parser.put(picture(seed)) for seed in range(parser.places)]
    assert parser.places == BUFFER_BYTES // (3 * SIDE * SIDE) == len({p.number for p in places if p})
    assert parser.put(picture(0)) is None
    taken = places[7]
    assert taken is not None
    inference.free(taken)
    assert parser.put(picture(99)) == taken
    assert np.array_equal(inference.look(taken), picture(99))
    last = places[-1]
    assert last is not None
    assert np.array_equal(inference.look(last), picture(parser.places - 1))


def test_a_picture_larger_than_a_shelf_has_no_place() -> None:
    descriptor = make_picture_buffer()
    assert descriptor is not None
    picture_buffer = SharedPictureBuffer(descriptor, BUFFER_BYTES + 1)
    assert (picture_buffer.places, picture_buffer.put(picture(0))) == (0, None)


def test_a_system_without_memory_files_has_no_shelves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    assert make_picture_buffer() is None


def test_a_descriptor_is_closed_once_it_is_passed_on() -> None:
    reader, writer = os.pipe()
    Descriptor(reader).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    os.close(writer)
