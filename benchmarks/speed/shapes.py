"""Models of well-known shapes with random weights, as local folders that the engine and its peers read.

Speed depends on the shape alone, so that random weights serve where no hub can be reached.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.command import BenchError
from engine.models.quiet import quiet

#: Settings of BERT by name, with the largest input in tokens. The `tiny` ones are for trying a case.
TEXT: dict[str, dict[str, Any]] = {
    "MiniLM-L6": {
        "num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536,
        "max_position_embeddings": 512, "max_tokens": 256,
    },
    "bge-large": {
        "num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096,
        "max_position_embeddings": 512, "max_tokens": 512,
    },
    "tiny": {
        "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128,
        "max_position_embeddings": 512, "max_tokens": 256,
    },
}  # fmt: skip

#: Architectures of open_clip, and one of ours.
IMAGE: dict[str, dict[str, Any]] = {
    "ViT-B-32": {},
    "ViT-L-14": {},
    "tiny": {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    },
}

#: Configuration of a BERT that is no part of its shape.
LAST = "saved"


def text_model(folder: Path, shape: str) -> Path:
    """A folder of sentence-transformers: the default model's tokenizer, BERT, mean pooling, normalisation.

    One that is there already is left.
    """
    target = folder / f"text-{shape}"
    if (target / LAST).exists():
        return target
    with quiet():
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Normalize, Pooling, Transformer
        from transformers import BertConfig, BertModel

    from engine.models.resolve import resolve_text

    sizes = dict(TEXT[shape])
    most = sizes.pop("max_tokens")
    bert = folder / f"bert-{shape}"
    source = Path(str(resolve_text().folder))
    config = BertConfig.from_pretrained(source, **sizes)
    _seed()
    with quiet():
        BertModel(config).save_pretrained(bert)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (source / name).exists():
            shutil.copy(source / name, bert / name)
    with quiet():
        transformer = Transformer(str(bert), max_seq_length=most)
        modules = [transformer, Pooling(config.hidden_size), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(target))
    shutil.rmtree(bert)
    (target / LAST).touch()
    return target


def image_model(folder: Path, shape: str) -> Path:
    """A folder of open_clip: its configuration and weights. One that is there already is left."""
    target = folder / f"image-{shape}"
    if (target / LAST).exists():
        return target
    import open_clip
    from safetensors.torch import save_file

    config = IMAGE[shape] or open_clip.get_model_config(shape)
    if not config:
        raise BenchError(f"open_clip has no architecture {shape}")
    target.mkdir(parents=True, exist_ok=True)
    _seed()
    name = shape if not IMAGE[shape] else _registered(shape, config, folder)
    with quiet():
        model = open_clip.create_model(name, load_weights=False)
    content = {"model_cfg": config, "preprocess_cfg": open_clip.get_model_preprocess_cfg(model)}
    (target / "open_clip_config.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, target / "open_clip_model.safetensors")
    (target / LAST).touch()
    return target


def _registered(shape: str, config: dict[str, Any], folder: Path) -> str:
    """open_clip reads its architectures from files."""
    import open_clip

    name = f"benchmark-{shape}"
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(path)
    return name


def _seed() -> None:
    import torch

    torch.manual_seed(0)
