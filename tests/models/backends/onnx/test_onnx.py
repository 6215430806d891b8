from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import DeviceLostError, UsageError
from engine.models.backends.onnx import cache as onnx_cache
from engine.models.backends.onnx import export as onnx_export
from engine.models.backends.onnx.export import export_text
from engine.models.backends.onnx.image import OnnxImage
from engine.models.backends.onnx.text import OnnxText
from engine.models.backends.torch.image import load_image_model
from engine.models.backends.torch.text import TextModel
from engine.models.batching import TooLargeError
from engine.models.files.digest import cache_folder
from engine.models.load import load_image, load_text
from engine.models.probes import cosines
from engine.models.quiet import quiet
from engine.models.resolve import demo_folder, resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec, to_json
from tests.models.backends.torch.test_text import assemble, ids_of, pooling, some_texts
from tests.models.conftest import edit, save_llama

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:importlib._bootstrap")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Exports run in the test's own process, where torch is at hand; gives the names of what was exported."""
    names: list[str] = []

    def export(spec: TextSpec | ImageSpec, folder: Path) -> dict[str, Any]:
        names.append(spec.name)
        return onnx_export.answer(spec, folder)

    monkeypatch.setattr(onnx_cache, "_export", export)
    return names


def assert_faithful(folder: Path, tmp_path: Path) -> OnnxText:
    """The exported model's vectors are those of the reference library: by ids, by text, and of a query."""
    with quiet():
        from sentence_transformers import SentenceTransformer

        reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    spec = resolve_text(str(folder))
    (made := tmp_path / "made").mkdir()
    figures = export_text(spec, made)
    model = OnnxText(spec, made, workers=0)
    # The reference reads more than a RoBERTa of this size has positions for, and fails.
    long = [] if reference.max_seq_length > (spec.max_tokens or 0) else ["the land and the work " * 100]
    texts = [*some_texts(), *long]
    with quiet():
        expected = reference.encode_document(texts)
        query = reference.encode_query("the work of the land")
    for vectors in (model.embed_texts(texts), model.embed_ids(ids_of(spec, some_texts()))):
        assert vectors.dtype == np.float32
        assert cosines(vectors, expected[: len(vectors)]).min() >= 0.99999
        np.testing.assert_allclose(vectors, expected[: len(vectors)], atol=1e-4)
    np.testing.assert_allclose(model.embed_query("the work of the land"), query, atol=1e-4)
    assert figures["least_cosine"] >= 0.99999  # type: ignore[operator]
    return model


@pytest.mark.parametrize("mode", ["cls", "mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_is_the_models_own(bert: Path, tmp_path: Path, mode: str) -> None:
    assert_faithful(assemble(tmp_path / "model", bert, pooling(mode)), tmp_path)


def test_a_dense_layer_and_normalisation_are_part_of_the_graph(bert: Path, tmp_path: Path) -> None:
    with quiet():
        from sentence_transformers.models import Dense, Normalize

        rest = pooling(["cls", "mean"]), Dense(64, 20, activation_function=torch.nn.Tanh()), Normalize()  # type: ignore[arg-type]
    model = assert_faithful(assemble(tmp_path / "model", bert, *rest), tmp_path)
    assert (model.spec.dimensions, model.spec.normalized) == (20, True)


def test_positions_behind_the_padding_id_and_prompts_are_followed(roberta: Path, tmp_path: Path) -> None:
    prompts = {"document": "title: the ", "query": "query: "}
    assert_faithful(assemble(tmp_path / "model", roberta, pooling("mean"), prompts=prompts), tmp_path)


def test_a_decoder_that_pads_on_the_left_is_followed(tmp_path: Path) -> None:
    transformer = save_llama(tmp_path / "llama")
    assert_faithful(assemble(tmp_path / "model", transformer, pooling("lasttoken")), tmp_path)


def test_a_pooling_that_leaves_a_querys_prompt_out_is_found_out(bert: Path, tmp_path: Path) -> None:
    folder = assemble(tmp_path / "model", bert, pooling("mean"), prompts={"query": "the great work: "})
    edit(folder / "1_Pooling" / "config.json", lambda config: config.update(include_prompt=False))
    with pytest.raises(UsageError, match=r"its ONNX form gives other vectors: least cosine 0\.\d+"):
        export_text(resolve_text(str(folder)), tmp_path)


def test_a_graph_that_reads_padding_as_input_is_found_out(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = onnx_export._Text.forward
    blind = lambda self, ids, lengths: forward(self, ids, 0 * lengths + ids.shape[1])  # noqa: E731
    monkeypatch.setattr(onnx_export._Text, "forward", blind)
    with pytest.raises(UsageError, match="its ONNX form gives other vectors"):
        export_text(resolve_text(str(bert)), tmp_path)


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
            f"text model {spec.name} is run by torch, not ONNX Runtime: it can't be exported ("
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
    model = load_text(resolve_text(str(bert)), "cpu")
    assert isinstance(model, TextModel)
    assert "its ONNX form gives other vectors: least cosine 0.9" in model.notes[0]


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
    with pytest.raises(onnx_cache.NotExportedError, match=why):
        onnx_text_of(resolve_text(str(folder)))
    assert exports == []


def onnx_text_of(spec: TextSpec) -> OnnxText:
    from engine.models.backends.onnx.text import load_onnx_text

    return load_onnx_text(spec)


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
        with pytest.raises(onnx_cache.NotExportedError, match=r"its export ended with exit code 1$"):
            onnx_cache.exported(spec)
    assert [path.suffix for path in (cache_folder() / "onnx").iterdir()] == [".lock"]


def test_an_export_that_there_is_no_room_for_is_refused_before_it_begins(bert: Path) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    with pytest.raises(UsageError, match=r"takes 1\.5 GiB .* and 0\.50 GiB of --max-ram are left"):
        onnx_cache.exported(spec, room=2**29, say=said.append)
    assert said == []
    assert not (cache_folder() / "onnx").exists()


def test_an_export_is_told_of_and_needs_no_room_once_it_is_there(bert: Path) -> None:
    spec = resolve_text(str(bert))
    said: list[str] = []
    folder = onnx_cache.exported(spec, room=onnx_cache.EXPORT_BYTES, say=said.append)
    assert onnx_cache.exported(spec, room=0, say=said.append) == folder
    (line,) = said
    assert "is exported for ONNX Runtime, once" in line


def test_a_cache_that_can_not_be_written_is_told(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_text(str(bert))
    (tmp_path / "file").touch()
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "file"))
    with pytest.raises(onnx_cache.NotExportedError, match=r"no ONNX form could be kept in .*file/onnx: "):
        onnx_cache.exported(spec)


#: Loads the model, says who exported it and what was imported, and prints a vector.
LOAD = """
import json, sys
from engine.models.backends.onnx import cache as onnx_cache
from engine.models.load import load_text
from engine.models.spec import from_json
make, made = onnx_cache._make, []
onnx_cache._make = lambda *given: (made.append(1), make(*given))[1]
model = load_text(from_json(sys.argv[1]), "cpu", "auto", "auto")
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


def test_minilm_gives_the_vectors_of_the_reference_library(exports: list[str]) -> None:
    with quiet():
        from sentence_transformers import SentenceTransformer
    spec = resolve_text()
    model = load_text(spec, "cpu", backend="onnx")
    assert isinstance(model, OnnxText)
    assert model.notes == ()
    with quiet():
        reference = SentenceTransformer(str(spec.folder), device="cpu", local_files_only=True)
        texts = [*some_texts(12, 120), "A long text. " * 300]
        expected = reference.encode(texts)
    assert cosines(model.embed_texts(texts), expected).min() >= 0.99999
    assert cosines(model.embed_ids(ids_of(spec, texts[:-1])), expected[:-1]).min() >= 0.99999


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> OnnxText:
    spec = resolve_text(str(bert))
    export_text(spec, tmp_path)
    return OnnxText(spec, tmp_path, workers=2)


def test_the_caller_hears_of_every_batch_and_gets_the_order_back(model: OnnxText) -> None:
    ids = ids_of(model.spec, some_texts())
    calls: list[int] = []
    vectors = model.embed_ids(ids, lambda: calls.append(1))
    assert 1 < len(calls) < len(ids)
    for index in (0, 11, 23):
        np.testing.assert_allclose(vectors[index], model.embed_ids([ids[index]])[0], atol=1e-6)
    assert model.embed_ids([]).shape == (0, 32)
    assert model.embed_texts([]).shape == (0, 32)


def test_a_lone_surrogate_is_read_as_a_replacement_character(model: OnnxText) -> None:
    vectors = model.embed_texts(["half \ud83d a pair", "half \ufffd a pair"])
    np.testing.assert_array_equal(vectors[0], vectors[1])


class Narrow:
    """A session with memory for inputs of at most so many tokens, and for less while others run."""

    def __init__(self, inner: Any, room: int) -> None:
        self._inner = inner
        self._room = room
        self.failures = 0

    def run(self, names: None, inputs: dict[str, Any]) -> Any:
        if inputs["input_ids"].size > self._room:
            self.failures += 1
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")
        return self._inner.run(names, inputs)


def test_an_input_that_does_not_fit_even_alone_is_named_and_the_others_have_their_vectors(
    model: OnnxText, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the work", "and " * 100, "a great land"]
    expected = model.embed_texts(texts)
    narrow = Narrow(model._session._session, 50)
    monkeypatch.setattr(model._session, "_session", narrow)
    with pytest.raises(TooLargeError, match="does not fit in the device's memory even alone") as caught:
        model.embed_texts(texts)
    assert narrow.failures == 2
    assert caught.value.positions == [1]
    assert np.isnan(caught.value.vectors[1]).all()
    np.testing.assert_array_equal(caught.value.vectors[[0, 2]], expected[[0, 2]])
    monkeypatch.setattr(model._session, "_session", Narrow(None, 0))
    with pytest.raises(DeviceLostError, match="no memory left"):
        model.embed_texts(texts)


#: Embeds in a process that may take no more address space than it has, and says which inputs did not fit.
CRAMPED = """
import resource, sys
from pathlib import Path
import numpy as np
from engine.models.batching import TooLargeError
from engine.models.backends.onnx.text import OnnxText
from engine.models.spec import from_json
model = OnnxText(from_json(sys.argv[1]), Path(sys.argv[2]))
small, large = np.zeros(3, np.int32), np.zeros(512, np.int32)
model.embed_ids([small] * 64)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)
try:
    model.embed_ids([large, small, large])
except TooLargeError as error:
    print(error.positions, np.isfinite(error.vectors[1]).all())
"""


def test_memory_that_really_runs_out_is_recognised_and_prints_nothing(tmp_path: Path) -> None:
    spec = resolve_text()
    export_text(spec, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED, to_json(spec), str(tmp_path)],
        env=os.environ | {"MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[0, 2] True\n", "")


def test_an_error_that_is_not_of_memory_is_the_callers(
    model: OnnxText, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model._session, "_inputs", ["input_ids", "no such input"])
    with pytest.raises(ValueError, match="no such input"):
        model.embed_texts(["the work"])


def test_the_demonstration_clip_gives_the_vectors_of_open_clip(exports: list[str]) -> None:
    if not demo_folder().is_dir():
        pytest.skip("the demonstration CLIP is not in this checkout")
    spec = resolve_image("demo-clip")
    model = load_image(spec, "cpu")
    assert isinstance(model, OnnxImage)
    pixels = np.random.default_rng(3).integers(0, 256, (5, *spec.size, 3), dtype=np.uint8)
    by_torch = load_image_model(spec, "cpu")
    calls: list[int] = []
    vectors = model.embed_pixels(pixels, lambda: calls.append(1))
    assert len(calls) == 5
    assert cosines(vectors, by_torch.embed_pixels(pixels)).min() >= 0.99999
    np.testing.assert_allclose(model.embed_query("red circle"), by_torch.embed_query("red circle"), atol=1e-6)


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
        with pytest.raises(UsageError, match=r"\+int8 is one of 8-bit integers, which --backend onnx alone"):
            load_text(spec, device, backend=library)


def test_int8_that_can_not_be_had_is_refused_and_nothing_takes_its_place(
    bert: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "USABLE_IN_INT8", 1.1)
    with pytest.raises(UsageError, match=r"\+int8 can't be had: its int8 form gives other vectors: mean"):
        load_text(resolve_text(str(bert), int8=True))
