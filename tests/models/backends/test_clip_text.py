"""CLIP's text tower in NumPy has open_clip's own vectors and ids; what it doesn't know is left to torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.models import backends
from engine.models.backends.base import CannotRunError
from engine.models.backends.clip_text import ClipText, _own_ids
from engine.models.backends.torch.image import ImageModel, load_image_model
from engine.models.load import load_caption
from engine.models.probes import PROBES, cosines
from engine.models.resolve import demo_folder, resolve_image
from engine.models.spec import ImageSpec, to_json

CAPTIONS = (
    *PROBES, "red circle", "two large blue squares", "", "A PHOTO of a dog's ball, it's &lt;big&gt;!",
    "x " * 200,
    "1234 don't we'll", "<end_of_text> in a caption", "â€œmojibakeâ€\x9d", "snow\u2028man ☃",
    "’ſ long s", "\u0345", "\U000323b0 \U0001fae8 \U0001df78", "l\u200dı\ufeffİ",
)  # fmt: skip


@pytest.fixture(params=[False, True], ids=["gelu", "quick_gelu"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a small model of open_clip's own vocabulary, with random weights."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24, "quick_gelu": request.param,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3},
    }  # fmt: skip
    model = open_clip.CLIP(**config)
    for parameter in model.parameters():
        parameter.data += 0.1 * parameter.data.new_tensor(
            np.random.default_rng(1).normal(size=parameter.shape), dtype=parameter.dtype
        )
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    return tmp_path


def same_as_open_clip(spec: ImageSpec) -> None:
    mine, theirs = load_caption(spec), load_image_model(spec, "cpu", "float32")
    assert isinstance(mine, ClipText)
    assert mine.notes == ()
    vectors, expected = (np.stack([each.embed_query(text) for text in CAPTIONS]) for each in (mine, theirs))
    assert cosines(vectors, expected).min() >= 0.99999
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_model_of_open_clips_own_vocabulary(folder: Path) -> None:
    same_as_open_clip(resolve_image(str(folder)))


def test_a_model_with_a_tokenizer_of_its_own() -> None:
    if not demo_folder().is_dir():
        pytest.skip("the demonstration CLIP is not in this checkout")
    same_as_open_clip(resolve_image("demo-clip"))


def test_ids_are_those_of_open_clip() -> None:
    from open_clip.tokenizer import SimpleTokenizer

    mine, theirs = _own_ids(), SimpleTokenizer()
    texts = [*CAPTIONS, *(chr(code) * 3 + " a" for code in range(0xA1, 0x3000, 97))]
    for text, row in zip(texts, theirs(list(texts)).tolist(), strict=True):
        ids = mine(text, 77)
        assert ids == row[: len(ids)]
        assert set(row[len(ids) :]) <= {0}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pool_type": "last"}, "its text tower has pool_type"),
        ({"hf_tokenizer_name": "elsewhere"}, "its tokenizer is not in its folder"),
    ],
)
def test_another_tower_is_left_to_torch(folder: Path, change: dict[str, str], why: str) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"].update(change)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CannotRunError, match=why):
        backends.get("numpy").prepare(resolve_image(str(folder)))


def cast(tensors: dict[str, torch.Tensor]) -> None:
    for name in tensors:
        tensors[name] = tensors[name].bfloat16()


def prefix(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors):
        tensors[f"module.{name}"] = tensors.pop(name)


def shorten(tensors: dict[str, torch.Tensor]) -> None:
    tensors["positional_embedding"] = tensors["positional_embedding"][:40].clone()


@pytest.mark.parametrize("change", [cast, prefix, shorten])
def test_weights_that_open_clip_converts_are_left_to_it(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "open_clip_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "open_clip_model.safetensors")
    spec = resolve_image(str(folder))
    model = load_caption(spec)
    assert isinstance(model, ImageModel)
    expected = load_image_model(spec, "cpu", "float32").embed_query("a red circle")
    np.testing.assert_allclose(model.embed_query("a red circle"), expected, atol=1e-6)


#: Embeds a caption and prints the large libraries among what that imported.
LEAN = """
import sys
from engine.models.load import load_caption
from engine.models.spec import from_json
load_caption(from_json(sys.argv[1])).embed_query("a red circle")
print({"torch", "open_clip", "torchvision", "transformers", "ftfy", "onnxruntime"} & set(sys.modules))
"""


def test_a_caption_needs_no_large_library(folder: Path) -> None:
    command = [sys.executable, "-c", LEAN, to_json(resolve_image(str(folder)))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
