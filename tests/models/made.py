"""Models that tests put together from tiny transformers, and texts for them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from engine.models.quiet import quiet
from engine.models.spec import TextSpec
from engine.records import TokenIds
from tests.models.conftest import WORDS

CLIP: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1},
}
PREPROCESS = {
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


def some_texts(n: int = 24, words: int = 60) -> list[str]:
    chance = random.Random(5)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, words))) for _ in range(n - 3)]
    return [*texts, "Zürich, 3.14!", "x", "the THE The"]


def ids_of(spec: TextSpec, texts: list[str]) -> list[TokenIds]:
    tokenizer = Tokenizer.from_file(str(spec.tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [np.array(tokenizer.encode(spec.document_prompt + text).ids, dtype=np.int32) for text in texts]


def assemble(folder: Path, transformer: Path, *rest: Any, **options: Any) -> Path:
    """Save a sentence-transformers model of a transformer folder and the modules behind it."""
    with quiet():
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Transformer

        SentenceTransformer(modules=[Transformer(str(transformer)), *rest], device="cpu", **options).save(
            str(folder)
        )
    return folder


def pooling(mode: str, width: int = 32, **options: Any) -> Any:
    with quiet():
        from sentence_transformers.models import Pooling

        return Pooling(width, pooling_mode=mode, **options)


def save_clip(folder: Path) -> Path:
    """An open_clip folder with random weights."""
    with quiet():
        import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(4)
    save_file(open_clip.CLIP(**CLIP).state_dict(), folder / "open_clip_model.safetensors")
    config = {"model_cfg": CLIP, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
