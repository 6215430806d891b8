"""The demo CLIP as an open_clip folder: configuration, tokenizer, weights and model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .captions import SPECIAL, vocabulary

#: Pictures are square, this many pixels a side.
IMAGE_SIZE = 64

#: Tokens a caption is cut to, the first and last special ones included.
CONTEXT_LENGTH = 22


def model_config() -> dict[str, Any]:
    """What `open_clip.CLIP` is built with: a small ModifiedResNet and a small text transformer."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "image_size": IMAGE_SIZE},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(vocabulary()),
            # open_clip takes the tokenizer from the folder itself when this is set, whatever it says.
            "hf_tokenizer_name": "demo-clip",
            "width": 128,
            "heads": 4,
            "layers": 2,
        },
    }


def write_config(folder: Path) -> None:
    """Write `open_clip_config.json` and the tokenizer's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "size": [IMAGE_SIZE, IMAGE_SIZE], "mode": "RGB", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
    }  # fmt: skip
    _write_json(folder / "open_clip_config.json", {"model_cfg": model_config(), "preprocess_cfg": preprocess})
    words = vocabulary()
    ids = {word: number for number, word in enumerate(words)}
    pad, unknown, start, end = SPECIAL
    special = [
        {"id": ids[word], "content": word, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for word in SPECIAL
    ]  # fmt: skip
    template = [{"SpecialToken": {"id": start, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": end, "type_id": 0}}]  # fmt: skip
    _write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": sorted(special, key=lambda token: int(str(token["id"]))),
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": template,
                "pair": [*template[:2], {"Sequence": {"id": "B", "type_id": 0}}, template[2]],
                "special_tokens": {
                    word: {"id": word, "ids": [ids[word]], "tokens": [word]} for word in (start, end)
                },
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": ids, "unk_token": unknown},
        },
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT_LENGTH,
            "pad_token": pad,
            "unk_token": unknown,
            "bos_token": start,
            "eos_token": end,
        },
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
