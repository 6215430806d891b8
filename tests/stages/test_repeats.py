"""Equal contents are embedded once, each gets its vector, and what is remembered is bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from engine.errors import HandOverError
from engine.models.batching import TooLargeError
from engine.records import Vector
from engine.stages.repeats import ENTRY_BYTES, REMEMBERED_BYTES, Remembered

DIMENSIONS = 8
ENTRY = 4 * DIMENSIONS + ENTRY_BYTES


class Model:
    """The vector of a key is made of its first byte; counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def of(self, keys: Sequence[bytes]) -> Callable[[Sequence[int]], Vector]:
        def embed(positions: Sequence[int]) -> Vector:
            self.asked += [keys[i] for i in positions]
            values = np.array([keys[i][0] for i in positions], np.float32)
            return np.repeat(values[:, None], DIMENSIONS, axis=1)

        return embed


def keys(letters: str) -> list[bytes]:
    return [letter.encode() for letter in letters]


def letters(vectors: Vector) -> str:
    assert vectors.dtype == np.float32
    return "".join(chr(int(vector[0])) for vector in vectors)


def test_each_position_gets_the_vector_of_its_content_and_each_content_is_embedded_once() -> None:
    model, remembered = Model(), Remembered()
    for window, repeated in (("abac", [2]), ("cabd", [0, 1, 2]), ("dacb", [0, 1, 2, 3]), ("eeae", [1, 2, 3])):
        made = remembered.embed(keys(window), model.of(keys(window)))
        assert letters(made.vectors) == window
        assert made.repeated == repeated
        assert made.refused == {}
    assert model.asked == keys("abcde")


def test_without_memory_everything_is_embedded_anew_within_a_window_too() -> None:
    model, remembered = Model(), Remembered(0)
    for _ in range(2):
        made = remembered.embed(keys("aab"), model.of(keys("aab")))
        assert letters(made.vectors) == "aab"
        assert made.repeated == []
    assert model.asked == keys("aabaab")
    assert remembered.size == 0


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    model, remembered = Model(), Remembered(3 * ENTRY)
    for window in ("abc", "a", "d"):  # `b` is the one that nobody asked for since
        remembered.embed(keys(window), model.of(keys(window)))
        assert remembered.size <= 3 * ENTRY
    model.asked.clear()
    made = remembered.embed(keys("acdb"), model.of(keys("acdb")))
    assert letters(made.vectors) == "acdb"
    assert model.asked == keys("b")


def test_memory_stays_below_its_bound_however_many_contents_pass() -> None:
    remembered = Remembered()
    for number in range(200):
        window = [number.to_bytes(8) + bytes([i]) for i in range(128)]
        remembered.embed(window, lambda chosen: np.ones((len(chosen), 384), np.float32))
        assert remembered.size <= REMEMBERED_BYTES
    assert remembered.size > REMEMBERED_BYTES - 384 * 4 - ENTRY_BYTES


def test_a_vector_larger_than_the_memory_is_not_kept() -> None:
    model, remembered = Model(), Remembered(ENTRY - 1)
    for _ in range(2):
        assert letters(remembered.embed(keys("aa"), model.of(keys("aa"))).vectors) == "aa"
    assert model.asked == keys("aa")
    assert remembered.size == 0


def test_what_is_remembered_does_not_change_with_the_vectors_that_were_given_out() -> None:
    model, remembered = Model(), Remembered()
    for _ in range(3):
        made = remembered.embed(keys("ab"), model.of(keys("ab")))
        assert letters(made.vectors) == "ab"
        made.vectors[:] = 0


def test_an_input_that_is_too_large_is_refused_wherever_it_stands_and_tried_again() -> None:
    def embed(positions: Sequence[int]) -> Vector:
        asked.append(list(positions))
        vectors = np.ones((len(positions), DIMENSIONS), np.float32)
        vectors[1] = np.nan
        raise TooLargeError(vectors, [1])

    asked: list[list[int]] = []
    remembered = Remembered()
    made = remembered.embed(keys("xyxyz"), embed)
    assert sorted(made.refused) == [1, 3]
    assert np.isnan(made.vectors[[1, 3]]).all()
    assert np.isfinite(made.vectors[[0, 2, 4]]).all()
    # Of the second window only `y` is new, and a vector that is not finite is no vector to remember.
    model = Model()
    assert letters(remembered.embed(keys("yx"), model.of(keys("yx"))).vectors)[0] == "y"
    assert model.asked == keys("y")
    assert asked == [[0, 1, 4]]


@pytest.mark.parametrize("more", [1, -1])
def test_a_model_that_gives_another_number_of_vectors_is_an_error_with_repeats_too(more: int) -> None:
    with pytest.raises(HandOverError, match=f"{2 + more} vectors for 2 chunks"):
        Remembered().embed(keys("aab"), lambda chosen: np.zeros((len(chosen) + more, DIMENSIONS), np.float32))
