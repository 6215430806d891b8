"""Models are timed once, before their first batch, where that was asked for or nobody knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.models.backends.stand_in import StandInImage, StandInText
from engine.models.batching import TooLargeError
from engine.models.measure import throughput
from engine.models.spec import ImageSpec, TextSpec
from engine.runtime.process import messages as m
from engine.runtime.workers import calibration as module
from engine.runtime.workers.calibration import Calibration


class Told:
    """A mailbox that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: object) -> None:
        self.sent.append(message)

    @contextmanager
    def waiting(self, side: str, on: str) -> Iterator[None]:
        yield

    def step(self) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(throughput, "MEASURE_S", 0.01)
    monkeypatch.setattr(module, "GATHER_S", 0.0)


def made(asked: bool, device: str = "cpu", rate: float | None = None) -> tuple[Calibration, list[Any]]:
    half, told = (0.5,) * 3, Told()
    calibration = Calibration(told, asked)  # type: ignore[arg-type]
    text = StandInText(TextSpec("stand-in:8", None, "d", 8, True, 256, "ids", None, stand_in_rate=rate))
    image = StandInImage(
        ImageSpec("stand-in:8", None, "i", 8, True, (8, 8), half, half, "shortest", "bicubic")
    )
    if device != "cpu":
        text.device = image.device = device
    calibration.models = {"text": text, "image": image}
    return calibration, told.sent


def test_a_run_on_a_cpu_is_timed_only_where_that_is_asked() -> None:
    calibration, sent = made(asked=False)
    calibration.announce()
    calibration.run("text", [10, 20])
    assert sent == [m.Calibrated("text", None, sent[0].seconds)]


def test_what_is_asked_for_is_announced_then_told_once_for_each_kind() -> None:
    calibration, sent = made(asked=True)
    calibration.announce()
    assert sent == [m.Calibrating()]
    calibration.gather()
    for _ in range(2):
        calibration.run("text", [10, 20])
        calibration.run("image", [])
    assert [type(each) for each in sent] == [m.Calibrating, m.Calibrated, m.Calibrating, m.Calibrated]
    assert [each.kind for each in sent if isinstance(each, m.Calibrated)] == ["text", "image"]
    assert all(each.rate for each in sent if isinstance(each, m.Calibrated))


def test_an_accelerator_is_timed_unasked_and_then_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, sent = made(asked=False, device="cuda:0")
    calibration.announce()
    calibration.run("text", [10])
    (first,) = (each for each in sent if isinstance(each, m.Calibrated))
    again, sent = made(asked=False, device="cuda:0")
    monkeypatch.setattr(module, "text_throughput", None)
    again.announce()
    again.run("text", [10])
    assert sent[-1].rate == first.rate


def test_a_stand_in_s_rate_is_known_without_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "text_throughput", None)
    calibration, sent = made(asked=True, rate=5000.0)
    calibration.announce()
    calibration.run("text", [10])
    assert [each.rate for each in sent] == [5000.0]
    assert calibration.device("text") == "stand-in"


def test_pictures_that_come_first_end_the_wait_for_texts() -> None:
    calibration, sent = made(asked=True)
    calibration.announce()
    calibration.run("image", [])
    assert sent[:2] == [m.Calibrating(), m.Calibrated("text", None, 0.0)]
    assert isinstance(sent[-1], m.Calibrated)


def test_inputs_that_do_not_fit_are_left_to_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> float:
        raise TooLargeError(None, [0])  # type: ignore[arg-type]

    monkeypatch.setattr(module, "text_throughput", too_large)
    calibration, sent = made(asked=True)
    calibration.run("text", [10])
    assert sent[-1].rate is None
