"""A model's throughput is measured on lengths like the corpus's, and remembered for the machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.models.backends.base import BackendChoice
from engine.models.backends.stand_in import StandInImage, StandInText
from engine.models.cache import cache_folder
from engine.models.measure import throughput
from engine.models.measure.throughput import image_throughput, remembered, text_throughput
from engine.models.spec import ImageSpec, TextSpec


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(throughput, "MEASURE_S", 0.2)


def text_model(rate: float | None = None, max_tokens: int = 256) -> StandInText:
    return StandInText(
        TextSpec("stand-in:8", None, "d", 8, True, max_tokens, "ids", None, stand_in_rate=rate)
    )


def image_model(rate: float | None = None) -> StandInImage:
    half = (0.5,) * 3
    return StandInImage(
        ImageSpec(
            "stand-in:8", None, "i", 8, True, (8, 8), half, half, "shortest", "bicubic", stand_in_rate=rate
        )
    )


def test_a_model_of_a_known_rate_has_that_throughput_at_any_lengths() -> None:
    for lengths in ([256] * 10, [16, 256, 3, 90]):
        assert text_throughput(text_model(20_000), lengths) == pytest.approx(20_000, rel=0.15)
    assert image_throughput(image_model(400)) == pytest.approx(400, rel=0.15)


def test_the_lengths_are_those_of_the_corpus_as_far_as_the_model_reads_and_steps_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen, steps = text_model(max_tokens=100), [], []
    embed = model.embed_ids

    def spy(ids, on_batch=None):  # type: ignore[no-untyped-def]
        seen.append([len(each) for each in ids])
        return embed(ids, on_batch)

    monkeypatch.setattr(model, "embed_ids", spy)
    text_throughput(model, [40, 300, 7], lambda: steps.append(1))
    assert len(seen) >= 2
    assert all(each == [40, 100, 7] for each in seen)
    assert len(steps) >= len(seen)


def test_a_model_that_takes_texts_gets_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = text_model()
    model.effective_mode = "text"
    monkeypatch.setattr(model, "embed_ids", None)
    taken: list[list[str]] = []

    def embed_texts(texts, on_batch=None):  # type: ignore[no-untyped-def]
        taken.append(list(texts))
        return np.zeros((len(texts), 8), dtype=np.float32)

    monkeypatch.setattr(model, "embed_texts", embed_texts)
    assert text_throughput(model, [12]) > 0
    assert taken[0] == ["word " * 10]


def test_what_was_measured_is_remembered_and_measured_again_where_that_is_asked() -> None:
    calls = []

    def measure() -> float:
        calls.append(1)
        return 1000.0 * len(calls)

    model = text_model()
    assert remembered(model, "text", [100] * 5, measure) == 1000.0
    assert remembered(model, "text", [120, 140], measure) == 1000.0  # nearly as long
    assert remembered(model, "text", [16, 16], measure) == 2000.0
    assert remembered(model, "text", [100], measure, again=True) == 3000.0
    assert remembered(model, "text", [100], measure) == 3000.0
    (one, two) = sorted((cache_folder() / "throughput").iterdir())
    assert {json.loads(path.read_text())["mean_length"] for path in (one, two)} == {128, 16}


@pytest.mark.parametrize("damaged", ["", "{}", '{"per_second": "no"}', '{"per_second": -1}', "[1]"])
def test_a_damaged_memory_is_made_anew(damaged: str) -> None:
    model = text_model()
    remembered(model, "text", [100], lambda: 5.0)
    (path,) = (cache_folder() / "throughput").iterdir()
    path.write_text(damaged)
    assert remembered(model, "text", [100], lambda: 7.0) == 7.0
    assert remembered(model, "text", [100], lambda: 9.0) == 7.0


def test_another_model_or_number_format_is_another_figure() -> None:
    model = text_model()
    assert remembered(model, "text", [100], lambda: 5.0) == 5.0
    model.choice = BackendChoice("stand-in", "bfloat16")
    assert remembered(model, "text", [100], lambda: 6.0) == 6.0
    model.device_name = "cuda:0 another GPU"
    assert remembered(model, "text", [100], lambda: 7.0) == 7.0
    other = StandInText(TextSpec("stand-in:8", None, "e", 8, True, 256, "ids", None))
    assert remembered(other, "text", [100], lambda: 8.0) == 8.0


def test_a_rated_stand_in_is_a_device_of_its_own() -> None:
    assert text_model(100.0).device == "stand-in"
    assert text_model().device == "cpu"
