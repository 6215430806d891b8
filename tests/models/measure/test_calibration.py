"""The fastest faithful way that there is room for is chosen, measured once and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.models import backend
from engine.models.backend import ONNX, BackendChoice
from engine.models.backends.onnx.cache import EXPORT_BYTES
from engine.models.files.digest import cache_folder
from engine.models.helper import HelperError, ask
from engine.models.load import open_text
from engine.models.measure import calibrate, calibration
from engine.models.measure.calibration import Measured, best, choose
from engine.models.resolve import resolve_text
from engine.models.spec import TextSpec, to_json

GIB = 2**30

OPENVINO, TORCH, HALF = (
    BackendChoice("openvino", "float32"),
    BackendChoice("torch", "float32"),
    BackendChoice("torch", "bfloat16"),
)
WAYS = [ONNX, OPENVINO, TORCH, HALF]


def measured(way: BackendChoice, gain: float, cosine: float = 1.0, size: int = 0, why: str = "") -> Measured:
    return Measured(
        backend=way.backend, dtype=way.dtype, gain=gain, rate=100 * gain, cosine=cosine, bytes=size, why=why
    )


ROWS = [
    measured(ONNX, 1.0, size=GIB // 8),
    measured(OPENVINO, 1.05, size=GIB // 4),
    measured(TORCH, 0.5, size=GIB),
    measured(HALF, 1.9, 0.9999, GIB),
]


def test_the_fastest_is_taken_and_one_that_gains_too_little_for_its_memory_is_not() -> None:
    assert best(ROWS, WAYS, None) == HALF
    assert best(ROWS[:3], WAYS, None) == ONNX
    assert best([ROWS[0], measured(OPENVINO, 1.5), *ROWS[2:]], WAYS, None) == HALF
    assert best([ROWS[0], measured(OPENVINO, 1.8), *ROWS[2:]], WAYS, None) == OPENVINO


def test_a_way_that_there_is_no_room_for_is_left_out_and_the_leanest_never() -> None:
    assert best(ROWS, WAYS, 2 * GIB) == HALF
    assert best(ROWS, WAYS, 2 * GIB - 1) == ONNX
    assert best(ROWS, WAYS, 0) == ONNX


def test_a_way_with_other_vectors_or_that_could_not_be_had_is_left_out() -> None:
    assert best([*ROWS[:3], measured(HALF, 1.9, 0.9989)], WAYS, None) == ONNX
    assert best([*ROWS[:3], measured(HALF, 1.9, float("nan"))], WAYS, None) == ONNX
    assert best([*ROWS[:3], measured(HALF, 1.9, why="it fails")], WAYS, None) == ONNX


def test_of_the_measured_only_what_is_possible_is_taken() -> None:
    assert best(ROWS, [ONNX, TORCH], None) == ONNX
    assert best(ROWS, [TORCH, HALF], None) == HALF


def test_the_reason_names_the_gain_or_what_stood_against_it() -> None:
    assert calibration.reason(ROWS, HALF, WAYS) == "torch bfloat16, 1.9 x onnx float32 on this CPU"
    said = calibration.reason(ROWS, ONNX, WAYS)
    assert said == "onnx float32; torch bfloat16 would be faster here, but not faithful, or too large"
    said = calibration.reason(ROWS[:3], ONNX, WAYS)
    assert said == "onnx float32, which no other way beats by enough on this CPU"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured: every model is large enough for that, and the answer is `ROWS`."""
    names: list[str] = []

    def answered(module: str, spec: TextSpec) -> dict[str, Any]:
        assert module == "engine.models.measure.calibrate"
        names.append(spec.name)
        return {"ways": ROWS}

    monkeypatch.setattr(calibration, "ask", answered)
    monkeypatch.setattr(calibration, "LEAST_WEIGHTS", 0)
    return names


def test_a_model_is_measured_once_until_machine_or_packages_change(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    assert [choose(spec, WAYS, None, said.append) for _ in range(2)] == [HALF, HALF]
    assert asked == [spec.name]
    assert said == [
        f"model {spec.name}: measuring which library runs it fastest here, once, in some 20 seconds",
        "text model: torch bfloat16, 1.9 x onnx float32 on this CPU; measured",
        "text model: torch bfloat16, 1.9 x onnx float32 on this CPU; cached",
    ]
    # What was measured serves whatever room a later run has.
    assert choose(spec, WAYS, GIB) == ONNX
    assert len(asked) == 1
    (kept,) = (cache_folder() / "calibration").glob("*.json")
    assert json.loads(kept.read_text())["model"] == spec.digest
    kept.write_text("{")
    choose(spec, WAYS)
    monkeypatch.setattr(calibration, "machine", lambda: {"cpu": "another", "flags": "", "cores": 64})
    choose(spec, WAYS)
    monkeypatch.setattr(calibration, "version", lambda package: "another")
    choose(spec, WAYS)
    assert len(asked) == 4


def test_without_room_or_a_choice_or_for_a_small_model_nothing_is_measured(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    assert choose(spec, WAYS, EXPORT_BYTES) == ONNX
    assert choose(spec, [TORCH]) == TORCH
    monkeypatch.setattr(calibration, "LEAST_WEIGHTS", 16 * 2**20)
    assert choose(spec, WAYS) == ONNX
    assert asked == []


def test_a_measurement_that_fails_is_told_and_the_leanest_is_taken(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(module: str, spec: TextSpec) -> dict[str, Any]:
        raise HelperError("ended with exit code -9")

    monkeypatch.setattr(calibration, "ask", killed)
    said: list[str] = []
    assert choose(resolve_text(str(bert)), WAYS, None, said.append) == ONNX
    assert said[-1].endswith(": what is fastest could not be measured: that ended with exit code -9")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert choose(resolve_text(str(bert)), WAYS, None, said.append) == ONNX
    assert len(said) == 2


def test_every_way_is_measured_against_the_first_and_one_that_fails_says_why(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(spec: TextSpec, way: BackendChoice) -> Any:
        raise RuntimeError("no such instruction\nat 0x0")

    real = open_text
    monkeypatch.setattr(calibrate, "ways", lambda *options: [ONNX, OPENVINO, HALF])
    monkeypatch.setattr(
        calibrate, "open_text", lambda spec, way: (fail if way == OPENVINO else real)(spec, way)
    )
    first, failed, half = calibrate.answer(resolve_text(str(bert)))["ways"]
    assert (first["backend"], first["dtype"], first["why"]) == ("onnx", "float32", "")
    assert first["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert 0.2 < first["gain"] < 5
    assert failed["why"] == "RuntimeError: no such instruction"
    assert (half["dtype"], half["why"]) == ("bfloat16", "")
    assert 0.99 < half["cosine"] < 0.9999999
    assert half["rate"] > 0


def test_the_process_that_measures_answers_with_a_line_of_json(bert: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine.models.measure.calibrate"],
        input=to_json(resolve_text(str(bert))) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    # Its standard input has ended, as it does when nobody waits for the answer any more.
    assert done.returncode == 1
    assert done.stdout == ""
    rows = ask("engine.models.measure.calibrate", resolve_text(str(bert)))["ways"]
    assert [BackendChoice(row["backend"], row["dtype"]) for row in rows] == backend.ways("auto", "auto")
    assert [row["why"] for row in rows] == [""] * len(rows)
