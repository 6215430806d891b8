"""What may run a model is told by what backends declare, and errors name what is accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import UsageError
from engine.machine import processor
from engine.models import backends
from engine.models.backends.base import BackendChoice, Work
from engine.models.backends.openvino import OpenVinoBackend
from engine.models.choices import check_backend, choices, why_none
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import TextSpec

SPEC = TextSpec("model", "/model", "d", 8, True, 256, "ids", None)

ONNX, TORCH, HALF = (
    BackendChoice(*each.split()) for each in ("onnx float32", "torch float32", "torch bfloat16")
)


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without OpenVINO and instructions for bfloat16."""
    monkeypatch.setattr(OpenVinoBackend, "installed", lambda self: False)
    computes(monkeypatch, False)


def computes(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    for name in ("openvino", "torch.backend"):
        monkeypatch.setattr(f"engine.models.backends.{name}.computes_in_bfloat16", lambda: fast)


def test_auto_compares_one_backend_for_each_number_format_the_leanest_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choices("text", SPEC, "cpu") == [ONNX]
    computes(monkeypatch, True)
    assert choices("text", SPEC, "cpu") == [ONNX, HALF]
    monkeypatch.setattr(OpenVinoBackend, "installed", lambda self: True)
    assert choices("text", SPEC, "cpu") == [ONNX, BackendChoice("openvino", "bfloat16")]


def test_a_number_format_that_is_named_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choices("text", SPEC, "cpu", "float32") == [ONNX]
    assert choices("text", SPEC, "cpu", "bfloat16") == [HALF]
    assert choices("text", SPEC, "cpu", "float16") == [BackendChoice("torch", "float16")]
    monkeypatch.setattr(OpenVinoBackend, "installed", lambda self: True)
    assert choices("text", SPEC, "cpu", "bfloat16") == [BackendChoice("openvino", "bfloat16")]


def test_a_backend_that_is_named_has_its_usual_number_format_first(monkeypatch: pytest.MonkeyPatch) -> None:
    computes(monkeypatch, True)
    monkeypatch.setattr(OpenVinoBackend, "installed", lambda self: True)
    for backend, expected in (("openvino", "bfloat16"), ("onnx", "float32"), ("torch", "float32")):
        assert choices("text", SPEC, "cpu", "auto", backend)[0] == BackendChoice(backend, expected)


def test_a_backend_that_failed_leaves_its_place_to_the_next() -> None:
    assert choices("text", SPEC, "cpu", without={"onnx"}) == [TORCH]
    assert choices("text", SPEC, "cpu", without={"onnx", "torch"}) == []


@pytest.mark.parametrize("work", ["text", "image"])
def test_a_gpu_is_torchs_which_finds_the_number_format_out(work: Work) -> None:
    spec = SPEC if work == "text" else replace(resolve_image("stand-in:8"), backend=None)
    assert choices(work, spec, "cuda:1") == [BackendChoice("torch", "auto")]
    assert choices(work, spec, "mps") == [TORCH]


def test_captions_are_of_those_who_declare_them() -> None:
    spec = replace(resolve_image("stand-in:8"), backend=None)
    assert choices("caption", spec, "cpu") == [BackendChoice("numpy", "float32")]
    assert choices("caption", spec, "cpu", without=["numpy"])[0] == TORCH
    assert choices("caption", spec, "mps") == [TORCH]


def test_8_bit_integers_are_a_matter_of_the_model() -> None:
    int8 = BackendChoice("onnx", "int8")
    spec = replace(SPEC, int8=True)
    assert choices("text", spec, "cpu") == choices("text", spec, "cpu", "float32") == [int8]
    assert choices("text", spec, "cuda:0") == []
    # A picture's model has none, whatever its text model has.
    image = replace(resolve_image("stand-in:8"), backend=None)
    assert choices("image", image, "cpu", "int8", "onnx") == [ONNX]


def test_a_stand_in_is_run_by_its_own_backend_whatever_is_named_for_others() -> None:
    expected = [BackendChoice("stand-in", "float32")]
    for backend in ("auto", "torch", "onnx", "stand-in"):
        assert choices("text", resolve_text("stand-in:8"), "cuda:3", "auto", backend) == expected
    assert choices("text", SPEC, "cpu", "auto", "stand-in") == []
    assert why_none("text", SPEC, "cpu", "auto", "stand-in").endswith("runs models of its own alone")


def test_the_reasons_why_nothing_can_run_a_model_name_each_backend() -> None:
    said = why_none("text", replace(SPEC, int8=True), "cuda:0", "auto", "auto")
    assert said.startswith("--backend onnx: it runs on cpu, not on cuda:0; --backend openvino: ")
    assert "--backend torch: it computes in float32, bfloat16 or float16, not in int8" in said
    assert "stand-in" not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("jax", "cpu", "auto"), "--backend jax: unknown; choose auto, onnx, .*, numpy, stand-in"),
        (("onnx", "cpu", "float16"), "--backend onnx needs --dtype float32 or int8, not float16"),
        (("onnx", "cuda", "auto"), "--backend onnx needs --device cpu, not cuda"),
        (("onnx", "cpu,cuda:1", "auto"), "--backend onnx needs --device cpu, not cuda:1"),
        (("openvino", "cpu", "float16"), "--backend openvino needs --dtype float32 or bfloat16, not float16"),
        (("auto", "cpu", "int8"), "--dtype int8 needs --backend onnx"),
        (("torch", "cpu", "int8"), "--dtype int8 needs --backend onnx"),
        (("auto", "cpu", "int4"), "--dtype int4: unknown; choose auto, float32, bfloat16, float16, int8"),
        (("auto", "gpu", "auto"), "--device gpu: 'gpu' is not cpu, cuda, cuda:N or mps"),
        (("openvino", "cpu", "auto"), r"openvino is not installed; pip install 'vec.*\[openvino\]' brings"),
    ],
)
def test_what_can_not_be_is_one_line_that_says_what_can(options: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        check_backend(*options)
    assert "\n" not in str(caught.value)


def test_what_can_be_is_accepted() -> None:
    for options in (
        ("auto", "auto", "auto"),
        ("onnx", "cpu,cpu", "int8"),
        ("torch", "cuda:0,cuda:1", "auto"),
    ):
        check_backend(*options)


def test_a_package_adds_a_backend_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy(OpenVinoBackend):
        name = title = "toy"
        dtypes = ("float16",)

        def installed(self) -> bool:
            return True

    class Point:
        def load(self) -> type[Toy]:
            return Toy

    monkeypatch.setitem(backends.REGISTRY._entry_points, "toy", Point())
    try:
        assert backends.names()[-1] == "toy"
        assert choices("text", SPEC, "cpu", "float16") == [BackendChoice("toy", "float16")]
        check_backend("toy", "cpu", "float16")
    finally:
        backends.get.cache_clear()


def test_instructions_for_bfloat16_are_those_of_the_processors_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (("avx2 avx512f", False), ("avx512f avx512_bf16", True), ("asimd bf16", True)):
        processor.computes_in_bfloat16.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(processor, "_processor", lambda flags=flags: {"flags": flags})
            assert processor.computes_in_bfloat16() is expected
    processor.computes_in_bfloat16.cache_clear()
