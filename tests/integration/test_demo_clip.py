"""The demo CLIP finds drawn pictures by their captions, loaded by open_clip alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps
from safetensors import safe_open

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "demo-clip"
JPEGS = sorted((ROOT / "examples" / "corpus" / "pictures" / "jpg").iterdir())

#: Upper bound of the weights in bytes, as they are part of every clone.
LARGEST_WEIGHTS = 8_000_000


class Searcher:
    """The corpus's JPEGs, ranked by a query."""

    def __init__(self) -> None:
        import open_clip  # here, as it takes seconds and every collection of the tests would pay for it

        name = f"local-dir:{FOLDER}"
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(name)
        self.tokenizer = open_clip.get_tokenizer(name)
        self.model.eval()
        self.pictures = self.embed([self._upright(path) for path in JPEGS])

    def embed(self, pictures: list[Image.Image]) -> torch.Tensor:
        with torch.inference_mode():
            pixels = torch.stack([self.preprocess(picture) for picture in pictures])
            embedded: torch.Tensor = self.model.encode_image(pixels, normalize=True)
        return embedded

    def ranked(self, query: str) -> list[str]:
        with torch.inference_mode():
            text = self.model.encode_text(self.tokenizer(query), normalize=True)
        order = (self.pictures @ text.T)[:, 0].argsort(descending=True)
        return [JPEGS[row].stem for row in order.tolist()]

    def _upright(self, path: Path) -> Image.Image:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")


@pytest.fixture(scope="module")
def searcher() -> Searcher:
    def refuse(*_: Any) -> None:
        raise OSError("the demo CLIP must load without a network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return Searcher()


def test_captions_find_their_pictures_among_a_hundred_that_training_never_showed() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "train_demo_clip", "--evaluate"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    result = json.loads(done.stdout)
    assert result["pictures"] == 100
    assert result["caption_to_picture_recall_at_1"] >= 0.9
    assert result["picture_to_caption_recall_at_1"] >= 0.9


def test_the_weights_are_small_and_in_half_precision(searcher: Searcher) -> None:
    path = FOLDER / "open_clip_model.safetensors"
    assert path.stat().st_size < LARGEST_WEIGHTS
    with safe_open(path, "pt") as weights:
        types = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    assert types == {"F16", "I64"}
    assert {parameter.dtype for parameter in searcher.model.parameters()} == {torch.float32}


def test_a_plain_query_ranks_the_corpus_as_a_person_would(searcher: Searcher) -> None:
    assert all("-red-circle-" in name for name in searcher.ranked("red circle")[:4])
    assert all("two-blue-squares" in name for name in searcher.ranked("two blue squares")[:2])
    assert searcher.ranked("yellow star")[0] == "large-yellow-star-on-black"
    assert searcher.ranked("a small green triangle in the top left")[0] == "small-green-triangle-on-white"


def test_capitals_punctuation_and_unknown_words_do_not_change_what_is_found(searcher: Searcher) -> None:
    plain = searcher.ranked("three yellow stars")[0]
    assert plain == "three-yellow-stars-on-blue"
    assert searcher.ranked("THREE yellow stars!")[0] == plain
    assert searcher.ranked("lovely three yellow stars")[0] == plain


def test_text_without_a_known_word_still_has_a_vector_of_length_one(searcher: Searcher) -> None:
    with torch.inference_mode():
        vectors = searcher.model.encode_text(searcher.tokenizer(["", "zebra", "🦓" * 500]), normalize=True)
    assert vectors.shape == (3, 128)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
