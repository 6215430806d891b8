"""A model is exported once, checked, and found again; where that fails another backend runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import UsageError
from engine.models import backends
from engine.models.backends.base import CannotRunError
from engine.models.backends.onnx import cache as onnx_cache
from engine.models.backends.onnx import export as onnx_export
from engine.models.backends.onnx.image import OnnxImage
from engine.models.backends.onnx.text import OnnxText
from engine.models.backends.torch.image import load_image_model
from engine.models.backends.torch.text import TextModel
from engine.models.cache import cache_folder
from engine.models.load import load_image, load_text
from engine.models.measure import costs
from engine.models.probes import cosines
from engine.models.resolve import demo_folder, resolve_image, resolve_text
from engine.models.spec import TextSpec, to_json
from tests.models.conftest import edit
from tests.models.made import assemble, pooling, some_texts

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


def test_a_model_that_can_not_be_exported_is_run_by_torch_and_tried_only_once(
    bert: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A version of the format that lacks operators which this model needs.
    monkeypatch.setattr(onnx_export, "OPSET", 7)
    spec = resolve_text(str(bert))
    for _ in range(2):
        model = load_text(spec, "cpu", backend="onnx")
        assert isinstance(model, TextModel)
        (note,) = model.notes
        assert note.startswith(
            f"text model {spec.name} is run by torch, not ONNX Runtime: its export failed ("
        )
        assert "\n" not in note
    assert exports == [spec.name]


def test_a_form_with_other_vectors_is_not_used(
    bert: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = onnx_export.write

    class Shifted(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            shifted: torch.Tensor = self.inner(*inputs) + 0.1
            return shifted

    monkeypatch.setattr(onnx_export, "write", lambda module, *rest: write(Shifted(module), *rest))
    model = load_text(resolve_text(str(bert)), "cpu", at_once=True)
    assert isinstance(model, TextModel)
    assert "its ONNX export gives other vectors: lowest cosine 0.9" in model.notes[0]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda settings: settings.update(do_lower_case=True), "its own tokenizer is needed"),
        (lambda settings: settings.update(max_seq_length=None), "it reads 2,000 tokens at once, above 1,024"),
    ],
)
def test_a_model_that_is_not_for_onnx_is_run_by_torch_without_an_attempt(
    bert: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str, exports: list[str]
) -> None:
    folder = assemble(tmp_path / "model", bert, pooling("mean"))
    edit(folder / "sentence_bert_config.json", change)
    edit(folder / "config.json", lambda config: config.update(max_position_embeddings=2000))
    edit(folder / "tokenizer_config.json", lambda config: config.update(model_max_length=2000))
    with pytest.raises(CannotRunError, match=why):
        backends.get("onnx").prepare(resolve_text(str(folder)))
    assert exports == []


def onnx_text_of(spec: TextSpec) -> OnnxText:
    return OnnxText(spec, onnx_cache.exported(spec))


def test_an_export_is_reused_until_its_files_or_a_package_change(
    bert: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    expected = onnx_text_of(spec).embed_texts(some_texts())
    assert len(exports) == 1
    np.testing.assert_array_equal(onnx_text_of(spec).embed_texts(some_texts()), expected)
    assert len(exports) == 1

    (folder,) = (path for path in (cache_folder() / "onnx").iterdir() if path.is_dir())
    report = json.loads((folder / onnx_cache.REPORT_FILE).read_text())
    assert (report["model"], report["name"]) == (spec.digest, spec.name)
    assert report["least_cosine"] >= 0.99999

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-100])

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    damages: Sequence[tuple[str, Callable[[Path], None]]] = [
        (onnx_cache.WEIGHTS_FILE, cut),
        (onnx_cache.WEIGHTS_FILE, flip),
        (onnx_cache.MODEL_FILE, Path.unlink),
        (onnx_cache.REPORT_FILE, cut),
    ]
    for number, (name, damage) in enumerate(damages, 2):
        damage(folder / name)
        np.testing.assert_allclose(onnx_text_of(spec).embed_texts(some_texts()), expected, atol=1e-6)
        assert len(exports) == number

    monkeypatch.setattr(onnx_cache, "version", lambda package: "another")
    onnx_text_of(spec)
    assert len(exports) == 6
    assert sorted(path.suffix for path in folder.parent.iterdir()) == ["", "", ".lock", ".lock"]


def test_an_exporter_that_dies_is_told_and_tried_again(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve_text(str(bert))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(CannotRunError, match=r"its export ended with exit code 1$"):
            onnx_cache.exported(spec)
    assert [path.suffix for path in (cache_folder() / "onnx").iterdir()] == [".lock"]


def test_an_export_that_there_is_no_room_for_is_refused_before_it_begins(bert: Path) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    with pytest.raises(UsageError, match=r"takes 1\.5 GiB .* and 0\.50 GiB of --max-ram are left"):
        onnx_cache.exported(spec, memory_limit=2**29, say=said.append)
    assert said == []
    assert not (cache_folder() / "onnx").exists()


def test_a_large_model_needs_more_room(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = resolve_text(str(bert))
    assert onnx_cache.export_bytes(spec) == onnx_cache.EXPORT_BYTES
    monkeypatch.setattr(costs, "weight_bytes", lambda spec: 2**30)
    with pytest.raises(UsageError, match=r"takes 4\.12 GiB .* and 4\.00 GiB of --max-ram are left"):
        onnx_cache.exported(spec, memory_limit=4 * 2**30)


def test_an_export_is_told_of_and_needs_no_room_once_it_is_there(bert: Path) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    folder = onnx_cache.exported(spec, memory_limit=onnx_cache.EXPORT_BYTES, say=said.append)
    assert onnx_cache.exported(spec, memory_limit=0, say=said.append) == folder
    (line,) = said
    assert "exporting to ONNX, once" in line


def test_a_cache_that_can_not_be_written_is_told(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    (tmp_path / "file").touch()
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CannotRunError, match=r"the ONNX export can't be written to .*file/onnx: "):
        onnx_cache.exported(spec)


#: Loads the model, says who exported it and what was imported, and prints a vector.
LOAD = """
import json, sys
from engine.models import backends
from engine.models.backends.base import CannotRunError
from engine.models.backends.onnx import cache as onnx_cache
from engine.models.load import load_text
from engine.models.spec import from_json
make, made = onnx_cache._make, []
onnx_cache._make = lambda *given: (made.append(1), make(*given))[1]
model = load_text(from_json(sys.argv[1]), "cpu", at_once=True)
vector = model.embed_query("the work of the land").tolist()
heavy = sorted({"torch", "transformers", "sentence_transformers", "onnx", "open_clip"} & set(sys.modules))
print(json.dumps([type(model).__name__, made, heavy, list(model.notes), vector]))
"""


def test_processes_that_load_at_once_share_one_export_and_import_no_torch(bert: Path) -> None:
    spec = resolve_text(str(bert))
    command = [sys.executable, "-c", LOAD, to_json(spec)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [errors for _, errors in said] == [b"", b""]
    answers = [json.loads(line) for line, _ in said]
    assert sorted(made for _, made, *_ in answers) == [[], [1]]
    for kind, _, heavy, notes, _ in answers:
        assert (kind, heavy, notes) == ("OnnxText", [], [])
    assert answers[0][-1] == answers[1][-1]
    torch_vector = load_text(spec, "cpu", backend="torch").embed_query("the work of the land")
    np.testing.assert_allclose(answers[0][-1], torch_vector, atol=1e-5)


def test_the_demonstration_clip_gives_the_vectors_of_open_clip(exports: list[str]) -> None:
    if not demo_folder().is_dir():
        pytest.skip("the demonstration CLIP is not in this checkout")
    spec = resolve_image("demo-clip")
    model = load_image(spec, "cpu", at_once=True)
    assert isinstance(model, OnnxImage)
    pixels = np.random.default_rng(3).integers(0, 256, (5, *spec.size, 3), dtype=np.uint8)
    by_torch = load_image_model(spec, "cpu")
    calls: list[int] = []
    vectors = model.embed_pixels(pixels, lambda: calls.append(1))
    assert len(calls) == 5
    assert cosines(vectors, by_torch.embed_pixels(pixels)).min() >= 0.99999


def test_int8_is_a_model_of_its_own_that_only_onnx_runs(bert: Path, exports: list[str]) -> None:
    whole, spec = resolve_text(str(bert)), resolve_text(str(bert), int8=True)
    # Under this name an index remembers it, and a search finds it.
    assert spec.name == f"{whole.name}+int8"
    assert resolve_text(spec.name) == spec
    assert spec.digest != whole.digest
    model = load_text(spec)
    assert isinstance(model, OnnxText)
    assert exports == [spec.name]
    vectors, exact = (load_text(each, "cpu").embed_texts(some_texts()) for each in (spec, whole))
    assert 0.9 < cosines(vectors, exact).mean() < 0.999999
    for device, library in (("cpu", "torch"), ("cuda", "auto")):
        with pytest.raises(
            UsageError, match=r"\+int8 can't be run: .*--backend torch: it computes in float32"
        ):
            load_text(spec, device, backend=library)


def test_int8_that_can_not_be_had_is_refused_and_nothing_takes_its_place(
    bert: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "USABLE_IN_INT8", 1.1)
    with pytest.raises(UsageError, match=r"\+int8 can't be run: its int8 export gives other vectors: mean"):
        load_text(resolve_text(str(bert), int8=True))
