from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import DeviceLostError, UsageError
from engine.models.backends.onnx.export import export_image
from engine.models.backends.onnx.image import OnnxImage
from engine.models.backends.torch.image import ImageModel, load_image_model
from engine.models.backends.torch.memory import Batches
from engine.models.batching import TooLargeError
from engine.models.quiet import quiet
from engine.models.resolve import demo_folder, resolve_image
from engine.records import Pixels
from tests.models.conftest import edit
from tests.models.made import CLIP


@pytest.fixture(scope="module")
def model(clip: Path) -> ImageModel:
    return load_image_model(resolve_image(str(clip)), "cpu")


def some_pictures(n: int = 40, size: int = 32) -> Pixels:
    return np.random.default_rng(6).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_pictures_get_the_vectors_of_open_clips_own_preprocessing(clip: Path, model: ImageModel) -> None:
    with quiet():
        import open_clip

        reference, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip}")
        reference.eval()
        pictures = some_pictures()
        inputs = torch.stack([preprocess(Image.fromarray(each)) for each in pictures])
        with torch.inference_mode():
            expected = reference.encode_image(inputs, normalize=True).numpy()
    vectors = model.embed_pixels(pictures)
    assert vectors.dtype == np.float32
    assert np.einsum("ij,ij->i", vectors, expected).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_caption_gets_the_vector_of_the_text_tower(clip: Path, model: ImageModel) -> None:
    with quiet():
        import open_clip

        reference = open_clip.create_model(f"local-dir:{clip}").eval()
        tokens = open_clip.get_tokenizer(f"local-dir:{clip}")(["a red circle"])
        with torch.inference_mode():
            expected = reference.encode_text(tokens, normalize=True).numpy()[0]
    assert float(model.embed_query("a red circle") @ expected) >= 0.99999
    assert model.embed_query("half \ud83d a pair").shape == (24,)
    assert float(model.embed_query("a blue square") @ expected) < 0.9999


def test_reduced_precision_stays_near(clip: Path, model: ImageModel) -> None:
    reduced = load_image_model(model.spec, "cpu", "bfloat16")
    pictures = some_pictures(8)
    cosine = np.einsum("ij,ij->i", reduced.embed_pixels(pictures), model.embed_pixels(pictures))
    assert cosine.min() >= 0.999


def test_the_caller_hears_of_every_batch(model: ImageModel) -> None:
    calls: list[int] = []
    assert model.embed_pixels(some_pictures(33), lambda: calls.append(1)).shape == (33, 24)
    assert len(calls) == 9
    assert model.embed_pixels(some_pictures(0)).shape == (0, 24)


def test_pictures_that_do_not_fit_the_memory_together_are_embedded_in_smaller_batches(
    clip: Path, model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = load_image_model(model.spec, "cpu")
    pictures = some_pictures(21)
    forward = narrow._forward
    sizes: list[int] = []

    def small(part: Pixels) -> Any:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("too much")
        return forward(part)

    monkeypatch.setattr(narrow, "_forward", small)
    monkeypatch.setattr(narrow, "_batches", Batches(torch.device("cpu"), 16))
    for expected in ([16, 8, 4, *[2] * 10, 1], [*[2] * 10, 1]):
        sizes.clear()
        np.testing.assert_allclose(narrow.embed_pixels(pictures), model.embed_pixels(pictures), atol=1e-5)
        assert sizes == expected


def test_a_picture_that_does_not_fit_even_alone_is_named(
    model: ImageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = model._forward

    def picky(part: Pixels) -> Any:
        if (part == 255).all(axis=(1, 2, 3)).any():
            raise torch.OutOfMemoryError("too much")
        return forward(part)

    pictures = some_pictures(5)
    expected = model.embed_pixels(pictures)
    pictures[3] = 255
    monkeypatch.setattr(model, "_forward", picky)
    monkeypatch.setattr(model, "_batches", Batches(torch.device("cpu"), 16))
    with pytest.raises(TooLargeError) as caught:
        model.embed_pixels(pictures)
    assert caught.value.positions == [3]
    np.testing.assert_allclose(np.delete(caught.value.vectors, 3, 0), np.delete(expected, 3, 0), atol=1e-5)


def test_a_device_that_has_no_room_at_load_is_the_users_to_mend_and_one_without_any_later_is_lost(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_image(str(clip))
    model = load_image_model(spec, "cpu")

    def full(self: ImageModel, part: Pixels) -> None:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(ImageModel, "_forward", full)
    with pytest.raises(DeviceLostError, match="no memory left, not even for the smallest input"):
        model.embed_pixels(some_pictures(2))
    with pytest.raises(UsageError, match="does not fit in the memory of cpu: free some of it"):
        load_image_model(spec, "cpu")


def test_a_preparation_that_open_clip_would_not_make_is_refused(model: ImageModel) -> None:
    with pytest.raises(UsageError, match=r"mean .*0\.4.*, but its files were read as \(0\.5"):
        load_image_model(replace(model.spec, mean=(0.5, 0.5, 0.5)), "cpu")
    with pytest.raises(UsageError, match="resize_mode squash"):
        load_image_model(replace(model.spec, resize_mode="shortest"), "cpu")
    with pytest.raises(UsageError, match="gives 24 dimensions"):
        load_image_model(replace(model.spec, dimensions=25), "cpu")


def test_a_folder_whose_tokenizer_is_missing_embeds_pictures_but_no_captions(
    clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "open_clip_model.safetensors").symlink_to(clip / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text((clip / "open_clip_config.json").read_text())
    edit(
        tmp_path / "open_clip_config.json",
        lambda config: config["model_cfg"]["text_cfg"].update(hf_tokenizer_name="somewhere/else"),
    )
    model = load_image_model(resolve_image(str(tmp_path)), "cpu")
    assert model.embed_pixels(some_pictures(1)).shape == (1, 24)
    with pytest.raises(UsageError, match="can't be searched by words") as caught:
        model.embed_query("a red circle")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_give_one_line(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"not weights")
    (tmp_path / "open_clip_config.json").write_text((clip / "open_clip_config.json").read_text())
    with pytest.raises(UsageError, match="can't be loaded") as caught:
        load_image_model(resolve_image(str(tmp_path)), "cpu")
    assert "\n" not in str(caught.value)


def test_an_architecture_of_open_clips_own_takes_weights_from_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    from engine.models.files import image_folder

    with quiet():
        import open_clip
    own = {"hf_hub": "someone/tiny/", **image_folder.DEFAULT_PREPROCESS}
    monkeypatch.setitem(image_folder.KNOWN_TAGS, ("Tiny", "none"), own)
    monkeypatch.setattr(image_folder, "architecture_config", lambda architecture: CLIP)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny", CLIP)
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    reference = snapshot.parent.parent / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text(snapshot.name)
    save_file(open_clip.CLIP(**CLIP).state_dict(), snapshot / "open_clip_model.safetensors")
    spec = resolve_image("Tiny/none")
    assert (spec.architecture, spec.weights_file, spec.size) == (
        "Tiny",
        "open_clip_model.safetensors",
        (32, 32),
    )
    assert load_image_model(spec, "cpu").embed_pixels(some_pictures(2)).shape == (2, 24)


def test_loading_and_embedding_print_nothing(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_image_model(resolve_image(str(clip)), "cpu")
    model.embed_pixels(some_pictures(2))
    model.embed_query("a red circle")
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not demo_folder().is_dir(), reason="the demonstration CLIP is not in this checkout")
def test_the_demonstration_clip_loads_with_its_own_tokenizer() -> None:
    model = load_image_model(resolve_image("demo-clip"), "cpu")
    red, blue = (model.embed_query(f"a {colour} circle") for colour in ("red", "blue"))
    assert red.shape == (model.spec.dimensions,)
    assert red @ blue < 0.999
    assert np.isfinite(model.embed_pixels(some_pictures(2, model.spec.size[0]))).all()


def test_a_tower_of_open_clips_own_attention_is_exported(model: ImageModel, tmp_path: Path) -> None:
    figures = export_image(model.spec, tmp_path)
    assert figures["least_cosine"] >= 0.99999  # type: ignore[operator]
    assert torch.backends.mha.get_fastpath_enabled()
    vectors = OnnxImage(model.spec, tmp_path).embed_pixels(some_pictures(5))
    np.testing.assert_allclose(vectors, model.embed_pixels(some_pictures(5)), atol=1e-5)
