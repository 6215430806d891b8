from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import ModelNotFoundError, UsageError
from engine.models import resolve
from engine.models.files import hub, image_folder, text_files
from engine.models.resolve import DEFAULT_TEXT_MODEL, resolve_image, resolve_text
from engine.models.spec import from_json, to_json
from tests.models.conftest import edit


def put_in_cache(tmp_path: Path, repo: str, source: Path) -> Path:
    place = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / ("a" * 40)
    shutil.copytree(source, snapshot)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    return snapshot


def clip_folder(folder: Path, **preprocess: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model = {"embed_dim": 32, "vision_cfg": {"image_size": [48, 64]}, "text_cfg": {}}
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"weights")
    return folder


def test_a_folder_comes_before_the_cache_and_the_cache_before_the_package(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_text().folder == str(hub.packaged())
    snapshot = put_in_cache(tmp_path, DEFAULT_TEXT_MODEL, bert)
    assert (resolve_text().folder, resolve_text().name) == (str(snapshot), DEFAULT_TEXT_MODEL)
    assert resolve_text("all-MiniLM-L6-v2").folder == str(snapshot)
    shutil.copytree(bert, tmp_path / "here" / DEFAULT_TEXT_MODEL)
    monkeypatch.chdir(tmp_path / "here")
    assert resolve_text().folder == str(tmp_path / "here" / DEFAULT_TEXT_MODEL)


def test_a_cached_model_is_found_but_not_in_parts(bert: Path, tmp_path: Path) -> None:
    snapshot = put_in_cache(tmp_path, "some/model", bert)
    assert resolve_text("some/model").dimensions == 32
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError):
        resolve_text("some/model")


def test_the_same_files_are_the_same_model_wherever_they_lie(bert: Path, tmp_path: Path) -> None:
    put_in_cache(tmp_path, "some/model", bert)
    cached, local = resolve_text("some/model"), resolve_text(str(bert))
    assert cached.digest == local.digest
    assert cached.name == "some/model"
    assert local.name == str(bert)


def test_a_change_of_weights_or_configuration_is_another_model(bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bert, tmp_path / "model"))
    first = resolve_text(str(folder)).digest
    (folder / "README.md").write_text("a card")
    (folder / "pytorch_model.bin").write_bytes(b"not what is loaded")
    assert resolve_text(str(folder)).digest == first
    edit(folder / "config.json", lambda config: config.update(layer_norm_eps=1e-6))
    second = resolve_text(str(folder)).digest
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b" ")
    assert len({first, second, resolve_text(str(folder)).digest}) == 3


def test_a_model_that_is_nowhere_names_the_places_and_the_three_ways() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_text("some/model")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("some/model", "folder", str(hub.hub_cache()), "[offline]", "copy its hub cache"):
        assert part in message


def test_the_hub_is_not_asked_when_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set"):
        resolve_text("some/model")


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c", "-x/y"])
def test_a_name_that_can_not_be_a_hub_id_is_not_sent_to_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "download", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(ModelNotFoundError, match="hub id"):
        resolve_text(name)


def test_what_the_hub_gives_is_found_in_the_cache_next_time(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    class Hub:
        def __init__(self, endpoint: str | None) -> None:
            self.endpoint = endpoint

        def model_info(self, repo: str, timeout: float) -> Any:
            names = [*(path.name for path in bert.iterdir()), "onnx/model.onnx", "pytorch_model.bin"]
            return SimpleNamespace(sha="a" * 40, siblings=[SimpleNamespace(rfilename=name) for name in names])

        def snapshot_download(self, repo: str, allow_patterns: list[str], **_: object) -> str:
            asked.append(allow_patterns)
            return str(put_in_cache(tmp_path, repo, bert))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    first = resolve_text("some/model")
    assert resolve_text("some/model") == first
    assert len(asked) == 1
    assert "model.safetensors" in asked[0]
    assert not {"onnx/model.onnx", "pytorch_model.bin"} & set(asked[0])


def test_of_several_forms_of_weights_one_is_fetched() -> None:
    names = [
        "README.md", "config.json", "modules.json", "model-00001-of-00002.safetensors", "tf_model.h5",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
        "onnx/model.onnx", "onnx/config.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin",
    ]  # fmt: skip
    assert text_files.choose_files(names) == [
        "2_Dense/config.json", "2_Dense/pytorch_model.bin", "config.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "model.safetensors.index.json", "modules.json",
    ]  # fmt: skip
    assert text_files.choose_files(["README.md", "config.json", "onnx/model.onnx"]) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither modules.json nor config.json"),
        ({"config.json": '{"hidden_size": 8}'}, "has no weights"),
        ({"config.json": "{"}, "can't be read as JSON"),
        ({"modules.json": "[]"}, "lists no module"),
        ({"modules.json": '[{"name": "0"}]'}, "is not a list of modules"),
        ({"modules.json": '[{"type": "own.Module", "path": ""}]'}, "needs code of its own"),
        (
            {"modules.json": '[{"type": "sentence_transformers.models.BoW", "path": ""}]'},
            "don't say how many dimensions",
        ),
    ],
)
def test_a_bad_folder_says_what_is_missing(tmp_path: Path, files: dict[str, str], message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        resolve_text(str(folder))
    assert "\n" not in str(caught.value)


def test_stand_ins_differ_by_dimensions_and_kind_but_not_by_rate() -> None:
    text = resolve_text("stand-in:384@5000")
    assert (text.name, text.dimensions, text.stand_in_rate, text.mode) == ("stand-in:384", 384, 5000, "ids")
    assert text.digest == resolve_text("stand-in:384").digest
    image = resolve_image("stand-in:512@0.5")
    assert (image.size, image.stand_in_rate) == ((224, 224), 0.5)
    assert len({text.digest, image.digest, resolve_image("stand-in:384").digest}) == 3


@pytest.mark.parametrize("name", ["stand-in:", "stand-in:0", "stand-in:8@", "stand-in:8@0", "stand-in:1e3"])
def test_a_stand_in_that_is_misspelt_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="stand-in:DIM"):
        resolve_text(name)
    with pytest.raises(UsageError, match="IMAGES_PER_S"):
        resolve_image(name)


def test_an_image_folder_says_how_pictures_are_prepared(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "clip", mean=0.5, interpolation="bilinear", resize_mode="longest")
    spec = resolve_image(str(folder))
    assert (spec.size, spec.dimensions, spec.normalized) == ((48, 64), 32, True)
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), image_folder.OPENAI_STD)
    assert (spec.interpolation, spec.resize_mode) == ("bilinear", "longest")
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(UsageError, match=r"has no weights: open_clip_model\.safetensors"):
        resolve_image(str(folder))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(UsageError, match=r"has no open_clip_config\.json"):
        resolve_image(str(folder))


def test_the_default_image_model_is_taken_from_the_cache(tmp_path: Path) -> None:
    clip = clip_folder(tmp_path / "clip")
    put_in_cache(tmp_path, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", clip)
    spec = resolve_image()
    assert (spec.name, spec.architecture, spec.notes) == ("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32", ())
    assert (spec.size, spec.dimensions) == ((224, 224), 512)


def test_without_the_default_image_model_the_demonstration_is_used_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = tmp_path / "demo"
    monkeypatch.setattr(resolve, "demo_folder", lambda: demo)
    with pytest.raises(ModelNotFoundError, match="image model ViT-B-32/laion2b_s34b_b79k was not found"):
        resolve_image()
    clip_folder(demo)
    spec = resolve_image()
    assert (spec.name, spec.folder) == ("demo-clip", str(demo))
    assert len(spec.notes) == 1
    assert "\n" not in spec.notes[0]
    assert resolve_image("demo-clip").digest == spec.digest
    assert resolve_image("demo-clip").notes == ()


def test_a_hub_repository_of_open_clip_can_be_named(tmp_path: Path) -> None:
    put_in_cache(tmp_path, "some/clip", clip_folder(tmp_path / "clip"))
    assert resolve_image("hf-hub:some/clip").dimensions == 32


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "/no/folder"])
def test_an_image_model_that_is_nowhere_names_the_three_ways(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"Give the folder of a model; or .*; or let a machine"):
        resolve_image(name)


def test_an_unknown_architecture_is_refused_without_asking_open_clip() -> None:
    with pytest.raises(UsageError, match="no architecture 'ViT-X-1'"):
        resolve_image("ViT-X-1/openai")


def test_open_clip_is_asked_for_a_tag_once_and_unknown_tags_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [
        json.dumps([{"hf_hub": "some/clip/", "quick_gelu": True}, ["openai"]]),
        json.dumps([{}, ["openai"]]),
    ]
    asked: list[Sequence[str]] = []

    def ask(command: Sequence[str], **_: object) -> Any:
        asked.append(command)
        return SimpleNamespace(stdout=answers[len(asked) - 1])

    monkeypatch.setattr(subprocess, "run", ask)
    assert image_folder.pretrained("ViT-B-32", "openai") == image_folder.pretrained("ViT-B-32", "openai")
    assert len(asked) == 1
    with pytest.raises(UsageError, match="no weights 'none' for ViT-B-32: it has openai"):
        image_folder.pretrained("ViT-B-32", "none")


def test_specifications_survive_json(bert: Path) -> None:
    for spec in (resolve_text(str(bert)), resolve_text("stand-in:8@5"), resolve_image("stand-in:8")):
        assert from_json(to_json(spec)) == spec
    for line in ("{}", "[]", '{"kind": "sound"}', '{"kind": "text", "name": "x"}', "nonsense"):
        with pytest.raises(ValueError):
            from_json(line)


def test_resolving_imports_neither_torch_nor_a_library_that_does() -> None:
    code = (
        "import sys; from engine.models import load; from engine.models.resolve import *;"
        "resolve_text(); spec = resolve_text('stand-in:8'); load.load_text(spec).embed_query('x');"
        "load.load_image(resolve_image('stand-in:8')).embed_query('x');"
        "print({'torch', 'transformers', 'sentence_transformers', 'open_clip'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (child.stdout, child.stderr) == ("set()\n", "")
