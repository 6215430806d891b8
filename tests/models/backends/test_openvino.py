"""OpenVINO gives the vectors of the reference library, in float32 and, where the CPU has it, in bfloat16."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")

from engine.errors import UsageError
from engine.machine.processor import computes_in_bfloat16
from engine.models.backends.onnx import text as onnx_text
from engine.models.backends.onnx.cache import MODEL_FILE
from engine.models.backends.onnx.image import OnnxImage
from engine.models.backends.onnx.text import OnnxText
from engine.models.backends.openvino import OpenVinoSession
from engine.models.load import load_image, load_text
from engine.models.probes import cosines
from engine.models.resolve import demo_folder, resolve_image, resolve_text
from tests.models.backends.contract import BackendContract
from tests.models.made import ids_of, some_texts


class TestOpenVino(BackendContract):
    name = "openvino"


def test_minilm_gives_the_vectors_of_torch_and_in_bfloat16_nearly() -> None:
    spec = resolve_text()
    texts = [*some_texts(), "A long text. " * 300]
    expected = load_text(spec, "cpu", backend="torch").embed_texts(texts)
    model = load_text(spec, "cpu", "float32", "openvino")
    assert isinstance(model, OnnxText)
    assert model.notes == ()
    assert cosines(model.embed_texts(texts), expected).min() >= 0.99999
    assert cosines(model.embed_ids(ids_of(spec, texts[:-1])), expected[:-1]).min() >= 0.99999
    if computes_in_bfloat16():
        half = load_text(spec, "cpu", "auto", "openvino").embed_texts(texts)
        assert 0.999 <= cosines(half, expected).min() < 0.9999999


def test_the_caller_hears_of_every_batch_and_gets_the_order_back(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_text, "cores", lambda: 2)
    spec = resolve_text(str(bert))
    model = load_text(spec, "cpu", "float32", "openvino")
    ids = ids_of(spec, some_texts())
    calls: list[int] = []
    vectors = model.embed_ids(ids, lambda: calls.append(1))
    assert 1 < len(calls) < len(ids)
    for index in (0, 11, 23):
        np.testing.assert_allclose(vectors[index], model.embed_ids([ids[index]])[0], atol=1e-6)
    assert model.embed_ids([]).shape == (0, 32)


def test_the_demonstration_clip_gives_the_vectors_of_torch() -> None:
    if not demo_folder().is_dir():
        pytest.skip("the demonstration CLIP is not in this checkout")
    spec = resolve_image("demo-clip")
    model = load_image(spec, "cpu", "float32", "openvino")
    assert isinstance(model, OnnxImage)
    pixels = np.random.default_rng(3).integers(0, 256, (5, *spec.size, 3), dtype=np.uint8)
    expected = load_image(spec, "cpu", backend="torch").embed_pixels(pixels)
    assert cosines(model.embed_pixels(pixels), expected).min() >= 0.99999


def test_a_graph_that_it_can_not_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(b"no graph")
    with pytest.raises(UsageError, match=r"OpenVINO can't run .*model\.onnx: ") as caught:
        OpenVinoSession(tmp_path / MODEL_FILE)
    assert "\n" not in str(caught.value)


def test_neither_torch_nor_onnx_runtime_is_imported_for_it(bert: Path) -> None:
    load_text(resolve_text(str(bert)), "cpu", "float32", "onnx")
    code = (
        "import sys; from engine.models.load import load_text;"
        "from engine.models.resolve import resolve_text;"
        "load_text(resolve_text(sys.argv[1]), 'cpu', 'float32', 'openvino').embed_query('the work');"
        "print(sorted({'torch', 'onnxruntime', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bert)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
