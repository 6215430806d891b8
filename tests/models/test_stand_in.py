from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import FIRST_ID, LAST_ID, Pace, StandInImage, StandInText, stand_in_tokens
from engine.records import Pixels

TEXT = TextSpec("stand-in:24", None, "t", 24, True, 256, "ids", None)
IMAGE = ImageSpec(
    "stand-in:16", None, "i", 16, True, (8, 8), (0.5,) * 3, (0.5,) * 3, "shortest", "bicubic"
)  # fmt: skip


def some_pictures(n: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


def test_a_token_is_up_to_eight_word_characters_or_one_other_sign() -> None:
    ids = stand_in_tokens("internationally, yes")
    assert ids.dtype == np.int32
    assert (ids[0], ids[-1]) == (FIRST_ID, LAST_ID)
    assert len(ids) == 2 + len(["internat", "ionally", ",", "yes"])
    assert list(ids[1:-1]) == [int(stand_in_tokens(t)[1]) for t in ("internat", "ionally", ",", "yes")]


def test_a_lone_surrogate_has_an_id_too() -> None:
    assert len(stand_in_tokens("\udc80")) == 3


def test_equal_inputs_give_equal_unit_vectors_in_the_order_of_the_inputs() -> None:
    model = StandInText(TEXT)
    texts = [f"text {'word ' * (n % 5)}{n}" for n in range(50)]
    vectors = model.embed_ids([stand_in_tokens(text) for text in texts])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(vectors, model.embed_texts(texts))
    assert np.array_equal(vectors[7], StandInText(TEXT).embed_query(texts[7]))
    off_diagonal = vectors @ vectors.T - np.eye(len(texts))
    assert off_diagonal.max() < 0.99


def test_pictures_that_differ_in_one_pixel_get_different_vectors() -> None:
    pictures = some_pictures(3)
    pictures[1] = pictures[0]
    pictures[1, 0, 0, 0] ^= 1
    pictures[2] = pictures[0]
    vectors = StandInImage(IMAGE).embed_pixels(pictures)
    assert vectors.shape == (3, 16)
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_nothing_in_gives_nothing_out() -> None:
    assert StandInText(TEXT).embed_ids([]).shape == (0, 24)
    assert StandInImage(IMAGE).embed_pixels(some_pictures(0)).shape == (0, 16)


def test_the_pace_sleeps_off_the_work_and_saves_no_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    pace = Pace(10)
    pace.spend(5)
    now += 60
    pace.spend(20)
    pace.spend(1)
    assert slept == pytest.approx([0.5, 2.0, 0.1])


def test_a_rate_makes_batches_of_about_a_second_so_that_the_caller_is_called_back() -> None:
    calls: list[int] = []
    model = StandInImage(ImageSpec(**{**_fields(IMAGE), "stand_in_rate": 400.0}))  # type: ignore[arg-type]
    model.embed_pixels(some_pictures(130), lambda: calls.append(1))
    assert len(calls) == 3
    assert Pace(10).at_most(64) == 10
    assert Pace(0.1).at_most(64) == 1


def _fields(spec: ImageSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__slots__}


def test_the_stand_in_is_imported_without_torch() -> None:
    code = "import sys, engine.models.stand_in; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
