"""The stand-in keeps the contract of a backend, and its own pace."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from engine.models.backends.stand_in import Pace, StandInImage, StandInText
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import stand_in_tokens
from engine.records import Pixels, TokenIds, Vector
from tests.models.backends.contract import BackendContract

TEXT = TextSpec("stand-in:24", None, "t", 24, True, 256, "ids", None)
IMAGE = ImageSpec(
    "stand-in:16", None, "i", 16, True, (8, 8), (0.5,) * 3, (0.5,) * 3, "shortest", "bicubic"
)  # fmt: skip


class TestStandIn(BackendContract):
    name = "stand-in"

    @pytest.fixture
    def text(self) -> TextSpec:
        return resolve_text("stand-in:24")

    @pytest.fixture
    def image(self) -> ImageSpec:
        return resolve_image("stand-in:16")

    def ids(self, texts: list[str], spec: TextSpec) -> list[TokenIds]:
        return [stand_in_tokens(text) for text in texts]

    def expected_texts(self, spec: TextSpec, texts: list[str]) -> Vector:
        return np.stack([expected(each.astype("<i4").tobytes(), 24) for each in self.ids(texts, spec)])

    def expected_pictures(self, spec: ImageSpec, pixels: Pixels) -> Vector:
        return np.stack([expected(each.tobytes(), 16) for each in pixels])


def expected(data: bytes, dimensions: int) -> Vector:
    """A stand-in's vector, as it is documented: an index that holds it must stay one."""
    stream = hashlib.shake_128(hashlib.blake2b(data).digest()).digest(2 * dimensions)
    vector = np.frombuffer(stream, dtype="<i2").astype(np.float32) + 0.5
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def some_pictures(n: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)


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
