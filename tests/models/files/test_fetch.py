from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.models.__main__ import main
from engine.models.files import fetch as fetching
from engine.models.resolve import DEFAULT_TEXT_MODEL, demo_folder, resolve_image, resolve_text
from tests.models.test_resolve import put_in_cache


def test_a_fetched_text_model_is_the_model_of_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", DEFAULT_TEXT_MODEL, "--to", str(tmp_path / "models")]) == 0
    folder = tmp_path / "models" / "sentence-transformers--all-MiniLM-L6-v2"
    assert f"--text-model {folder}" in capsys.readouterr().out
    fetched, named = resolve_text(str(folder)), resolve_text(DEFAULT_TEXT_MODEL)
    assert (fetched.digest, fetched.dimensions) == (named.digest, named.dimensions)
    manifest = json.loads((folder / "manifest.json").read_text())
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {path for path, _, _ in manifest["files"]} == there - {"manifest.json"}
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert main(["fetch", DEFAULT_TEXT_MODEL, "--to", str(tmp_path / "models")]) == 0
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert main(["check", str(folder)]) == 0


def test_a_tagged_image_model_keeps_its_digest_in_its_folder(tmp_path: Path) -> None:
    demo = demo_folder()
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(demo / "open_clip_model.safetensors", source)
    put_in_cache(tmp_path, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", source)
    folder, fetched = fetching.fetch("ViT-B-32/laion2b_s34b_b79k", tmp_path / "models")
    assert fetched.digest == resolve_image("ViT-B-32/laion2b_s34b_b79k").digest
    assert resolve_image(str(folder)).digest == fetched.digest
    assert resolve_image(str(folder)).name == str(folder)


def test_a_damaged_copy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, fetched = fetching.fetch("demo-clip", tmp_path)
    assert fetched.kind == "image"
    weights = folder / "open_clip_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["check", str(folder)]) == 2
    assert f"{weights}: differs from its checksum" in capsys.readouterr().err
    weights.unlink()
    with pytest.raises(UsageError, match="no such file"):
        fetching.check(folder)
    with pytest.raises(UsageError, match="no readable manifest"):
        fetching.check(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nobody/has-this", "was not found"),
        ("stand-in:16", "has no files"),
        ("ViT-B-32/nope", "has no weights"),
    ],
)
def test_what_cannot_be_fetched_is_refused_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    told: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", name, "--to", str(tmp_path / "models")]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "models").exists() or not any((tmp_path / "models").iterdir())
