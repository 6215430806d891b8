"""The fastest faithful backend that there is memory for is chosen, measured once and remembered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.models.backends.base import BackendChoice, CannotRunError
from engine.models.backends.onnx.backend import OnnxBackend
from engine.models.backends.openvino import OpenVinoBackend
from engine.models.cache import cache_folder
from engine.models.choices import choices
from engine.models.helper import HelperError, ask
from engine.models.measure import calibrate, calibration
from engine.models.measure.calibration import Measured, best, choose
from engine.models.resolve import resolve_text
from engine.models.spec import TextSpec, to_json

GIB = 2**30

ONNX, OPENVINO, TORCH, HALF = (
    BackendChoice("onnx", "float32"),
    BackendChoice("openvino", "float32"),
    BackendChoice("torch", "float32"),
    BackendChoice("torch", "bfloat16"),
)
ALL = [ONNX, OPENVINO, TORCH, HALF]


def measured(
    choice: BackendChoice, gain: float, cosine: float = 1.0, size: int = 0, why: str = ""
) -> Measured:
    return Measured(
        backend=choice.backend,
        dtype=choice.dtype,
        gain=gain,
        rate=100 * gain,
        cosine=cosine,
        bytes=size,
        why=why,
    )


ROWS = [
    measured(ONNX, 1.0, size=GIB // 8),
    measured(OPENVINO, 1.05, size=GIB // 4),
    measured(TORCH, 0.5, size=GIB),
    measured(HALF, 1.9, 0.9999, GIB),
]


def test_the_fastest_is_taken_and_one_that_gains_too_little_for_its_memory_is_not() -> None:
    assert best(ROWS, ALL, None) == HALF
    assert best(ROWS[:3], ALL, None) == ONNX
    assert best([ROWS[0], measured(OPENVINO, 1.5), *ROWS[2:]], ALL, None) == HALF
    assert best([ROWS[0], measured(OPENVINO, 1.8), *ROWS[2:]], ALL, None) == OPENVINO


def test_what_there_is_no_memory_for_is_left_out_and_the_leanest_never() -> None:
    assert best(ROWS, ALL, 2 * GIB) == HALF
    assert best(ROWS, ALL, 2 * GIB - 1) == ONNX
    assert best(ROWS, ALL, 0) == ONNX


def test_what_has_other_vectors_or_could_not_be_run_is_left_out() -> None:
    assert best([*ROWS[:3], measured(HALF, 1.9, 0.9989)], ALL, None) == ONNX
    assert best([*ROWS[:3], measured(HALF, 1.9, float("nan"))], ALL, None) == ONNX
    assert best([*ROWS[:3], measured(HALF, 1.9, why="it fails")], ALL, None) == ONNX


def test_of_the_measured_only_what_is_possible_is_taken() -> None:
    assert best(ROWS, [ONNX, TORCH], None) == ONNX
    assert best(ROWS, [TORCH, HALF], None) == HALF


def test_the_reason_names_the_gain_or_what_stood_against_it() -> None:
    assert calibration.reason(ROWS, HALF, ALL) == "torch bfloat16, 1.9 x onnx float32 on this CPU"
    said = calibration.reason(ROWS, ONNX, ALL)
    assert said == "onnx float32; torch bfloat16: faster here, but not faithful, or too large"
    said = calibration.reason(ROWS[:3], ONNX, ALL)
    assert said == "onnx float32; no other is faster by 25% on this CPU"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured: every model is large enough for that, and the answer is `ROWS`."""
    names: list[str] = []

    def answered(module: str, spec: TextSpec, *possible: str) -> dict[str, Any]:
        assert module == "engine.models.measure.calibrate"
        assert possible == tuple(map(str, ALL))
        names.append(spec.name)
        return {"choices": ROWS, "cpu_s": 12.0}

    monkeypatch.setattr(calibration, "ask", answered)
    monkeypatch.setattr(calibration, "LEAST_WEIGHTS", 0)
    return names


def test_a_model_is_measured_once_until_machine_or_packages_change(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    assert [choose(spec, ALL, None, said.append) for _ in range(2)] == [HALF, HALF]
    assert asked == [spec.name]
    assert said == [
        f"model {spec.name}: measuring which backend is fastest here, once, in some 15 seconds",
        "text model: torch bfloat16, 1.9 x onnx float32 on this CPU; measured",
        "text model: torch bfloat16, 1.9 x onnx float32 on this CPU; cached",
    ]
    # What was measured serves whatever memory a later run has.
    assert choose(spec, ALL, GIB) == ONNX
    assert len(asked) == 1
    (kept,) = (cache_folder() / "calibration").glob("*.json")
    assert json.loads(kept.read_text())["model"] == spec.digest
    kept.write_text("{")
    choose(spec, ALL)
    monkeypatch.setattr(calibration, "machine", lambda: {"cpu": "another", "flags": "", "cores": 64})
    choose(spec, ALL)
    monkeypatch.setattr(calibration, "version", lambda package: "another")
    choose(spec, ALL)
    assert len(asked) == 4


def test_without_memory_or_a_choice_or_for_a_small_model_nothing_is_measured(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    assert choose(spec, ALL, GIB) == ONNX
    assert choose(spec, [TORCH]) == TORCH
    monkeypatch.setattr(calibration, "LEAST_WEIGHTS", 16 * 2**20)
    assert choose(spec, ALL) == ONNX
    assert asked == []


def test_a_measurement_that_fails_is_told_and_the_leanest_is_taken(
    bert: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(module: str, spec: TextSpec, *possible: str) -> dict[str, Any]:
        raise HelperError("ended with exit code -9")

    monkeypatch.setattr(calibration, "ask", killed)
    said: list[str] = []
    assert choose(resolve_text(str(bert)), ALL, None, said.append) == ONNX
    assert said[-1].endswith(": the backends could not be compared: the process ended with exit code -9")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert choose(resolve_text(str(bert)), ALL, None, said.append) == ONNX
    assert len(said) == 2


def test_each_is_measured_against_the_first_and_one_that_fails_says_why(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: OpenVinoBackend, *_: object) -> Any:
        raise RuntimeError("no such instruction\nat 0x0")

    monkeypatch.setattr(OpenVinoBackend, "load_text", fail)
    first, failed, half = calibrate.answer(resolve_text(str(bert)), [ONNX, OPENVINO, HALF])["choices"]
    assert (first["backend"], first["dtype"], first["why"]) == ("onnx", "float32", "")
    assert first["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert 0.2 < first["gain"] < 5
    assert failed["why"] == "RuntimeError: no such instruction"
    assert (half["dtype"], half["why"]) == ("bfloat16", "")
    assert 0.99 < half["cosine"] < 0.9999999
    assert half["rate"] > 0


def test_where_the_first_fails_the_next_is_the_reference(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: OnnxBackend, *_: object) -> None:
        raise CannotRunError("it has no graph")

    monkeypatch.setattr(OnnxBackend, "prepare", fail)
    failed, second = calibrate.answer(resolve_text(str(bert)), [ONNX, TORCH])["choices"]
    assert (failed["why"], failed["gain"]) == ("it has no graph", 0.0)
    assert second["cosine"] == pytest.approx(1.0, abs=1e-6)


def test_the_process_that_measures_answers_with_a_line_of_json(bert: Path) -> None:
    possible = [str(each) for each in choices("text", resolve_text(str(bert)), "cpu")]
    done = subprocess.run(
        [sys.executable, "-m", "engine.models.measure.calibrate", *possible],
        input=to_json(resolve_text(str(bert))) + "\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    # Its standard input has ended, as it does when nobody waits for the answer any more.
    assert done.returncode == 1
    assert done.stdout == ""
    rows = ask("engine.models.measure.calibrate", resolve_text(str(bert)), *possible)["choices"]
    assert [f"{row['backend']} {row['dtype']}" for row in rows] == possible
    assert [row["why"] for row in rows] == [""] * len(rows)
