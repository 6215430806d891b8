from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.models import backend
from engine.models.backend import ONNX, BackendChoice, check_backend, ways


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenVINO and instructions for bfloat16."""
    for name in ("has_openvino", "computes_in_bfloat16"):
        monkeypatch.setattr(backend, name, lambda: False)


def test_auto_compares_what_is_installed_in_the_numbers_that_the_cpu_computes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ways("auto", "auto") == [ONNX]
    monkeypatch.setattr(backend, "has_openvino", lambda: True)
    assert ways("auto", "auto") == [ONNX, BackendChoice("openvino", "float32")]
    monkeypatch.setattr(backend, "computes_in_bfloat16", lambda: True)
    assert ways("auto", "auto") == [
        ONNX,
        BackendChoice("openvino", "float32"),
        BackendChoice("openvino", "bfloat16"),
        BackendChoice("torch", "bfloat16"),
    ]


def test_a_dtype_that_is_named_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "computes_in_bfloat16", lambda: True)
    assert ways("auto", "float32") == [ONNX]
    assert ways("auto", "bfloat16") == [BackendChoice("torch", "bfloat16")]
    assert ways("auto", "float16") == [BackendChoice("torch", "float16")]
    monkeypatch.setattr(backend, "has_openvino", lambda: True)
    assert ways("auto", "bfloat16") == [
        BackendChoice("openvino", "bfloat16"),
        BackendChoice("torch", "bfloat16"),
    ]
    assert ways("openvino", "float32") == [BackendChoice("openvino", "float32")]


def test_a_backend_that_is_named_runs_in_its_best_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_openvino", lambda: True)
    assert ways("openvino", "auto") == [BackendChoice("openvino", "float32")]
    monkeypatch.setattr(backend, "computes_in_bfloat16", lambda: True)
    assert ways("openvino", "auto") == [BackendChoice("openvino", "bfloat16")]
    assert ways("onnx", "auto") == [ONNX]
    assert ways("onnx", "int8") == [BackendChoice("onnx", "int8")]
    assert ways("torch", "auto") == [BackendChoice("torch", "float32")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("jax", "cpu", "auto"), "backend 'jax' is unknown: one of auto, torch, onnx, openvino is expected"),
        (("onnx", "cpu", "float16"), "--backend onnx has no dtype float16, only float32 and int8: name"),
        (
            ("onnx", "cuda", "auto"),
            "--backend onnx has no device cuda, only cpu: name that, or",
        ),
        (
            ("openvino", "cpu", "float16"),
            "--backend openvino has no dtype float16, only float32 and bf",
        ),
        (("auto", "cpu", "int8"), "--dtype int8 is had by --backend onnx alone, not by auto: name that"),
        (
            ("openvino", "cpu", "auto"),
            r"openvino is not installed; pip install 'vec.*\[openvino\]' brings",
        ),
    ],
)
def test_what_can_not_be_is_one_line_that_says_what_can(options: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_backend(*options)
    assert "\n" not in str(caught.value)


def test_instructions_for_bfloat16_are_those_of_the_processors_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for flags, expected in (("avx2 avx512f", False), ("avx512f avx512_bf16", True), ("asimd bf16", True)):
        backend.computes_in_bfloat16.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(backend, "_processor", lambda flags=flags: {"flags": flags})
            assert backend.computes_in_bfloat16() is expected
    backend.computes_in_bfloat16.cache_clear()
