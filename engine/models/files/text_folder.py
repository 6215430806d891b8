"""Reads the specification of a sentence-transformers model from its folder, without loading it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.models.files.digest import model_digest
from engine.models.files.text_files import (
    PLAIN_MODULES,
    Module,
    model_files,
    module_at,
    read_json,
    read_modules,
)
from engine.models.spec import TextSpec

#: Settings of a Transformer module that don't change what its tokenizer makes of a text.
PLAIN_SETTINGS = {
    "max_seq_length", "do_lower_case", "model_args", "model_kwargs", "config_args", "config_kwargs",
    "transformer_task", "modality_config", "module_output_name", "unpad_inputs",
}  # fmt: skip

#: Model types whose positions count from the padding id plus one, as RoBERTa's do.
OFFSET_TYPES = {
    "camembert", "data2vec-text", "ibert", "lilt", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip

#: A `model_max_length` from here on means that the tokenizer knows no limit.
NO_LIMIT = 1_000_000

_POOLING_MODES = (
    "pooling_mode_cls_token", "pooling_mode_max_tokens", "pooling_mode_mean_tokens",
    "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken",
)  # fmt: skip


def read_spec(folder: Path, name: str, trust_remote_code: bool = False) -> TextSpec:
    """The specification of the model in `folder`, under the name `name`.

    Raises `UsageError` where the files are not those of a text model, or don't say what is needed.
    """
    modules = read_modules(folder)
    reader = _reader(modules, name)
    # sentence-transformers reads its own settings only where it made the folder.
    plain = not (folder / "modules.json").is_file()
    settings = {} if plain else read_json(folder / "config_sentence_transformers.json")
    if not trust_remote_code and (own := [m.kind for m in modules if "." in m.kind]):
        raise UsageError(
            f"model {name} needs code of its own ({own[0]}), which runs only with --trust-remote-code"
        )
    dimensions, normalized = shape(modules, name)
    if truncate := settings.get("truncate_dim"):
        dimensions, normalized = min(dimensions, int(truncate)), False
    prompts = settings.get("prompts") or {}
    document_prompt, query_prompt = (prompts.get(task) or "" for task in ("document", "query"))
    reason = why_text(modules, settings, document_prompt, plain)
    tokenizer = next(_tokenizers(folder, reader), None)
    return TextSpec(
        name=name,
        folder=str(folder),
        digest=model_digest(model_files(folder, modules, trust_remote_code)),
        dimensions=dimensions,
        normalized=normalized,
        max_tokens=max_tokens(reader),
        mode="text" if reason else "ids",
        tokenizer_file=str(tokenizer) if tokenizer else None,
        document_prompt=document_prompt,
        query_prompt=query_prompt,
        trust_remote_code=trust_remote_code,
        notes=(f"text model {name}: {reason}, so its own tokenizer is used, which is slower",)
        if reason
        else (),
    )


def shape(modules: Sequence[Module], name: str) -> tuple[int, bool]:
    """Dimensions of the model's vectors, and whether their length is one."""
    dimensions: int | None = None
    normalized = False
    for module in modules:
        config = module.config
        if module.kind == "Normalize":
            normalized |= config.get("module_input_name", "sentence_embedding") == "sentence_embedding"
            continue
        if module.kind == "Dropout":
            continue
        if module.kind == "Dense":
            source = config.get("module_input_name", "sentence_embedding")
            if (config.get("module_output_name") or source) != "sentence_embedding":
                continue
            dimensions = int(config["out_features"])
        elif module.kind == "Transformer":
            dimensions = hidden_size(module)
        elif module.kind == "Pooling":
            width = config.get("embedding_dimension") or config.get("word_embedding_dimension") or dimensions
            dimensions = int(width) * _pooled(config) if width else None
        elif module.kind == "StaticEmbedding":
            dimensions = _table_width(module.folder / "model.safetensors")
        elif module.kind == "CLIPModel":
            dimensions = read_json(module.folder / "config.json").get("projection_dim")
        elif module.kind in {"Router", "Asym"}:
            dimensions, normalized = shape(_document_route(module, name), name)
            continue
        normalized = False
    if not dimensions:
        raise UsageError(f"the files of model {name} don't say how many dimensions its vectors have")
    return dimensions, normalized


def hidden_size(module: Module) -> int | None:
    """The width of a transformer's output, under the names that configurations give it."""
    config = read_json(module.folder / "config.json")
    return next((config[key] for key in ("hidden_size", "d_model", "dim", "n_embd") if key in config), None)


def _pooled(config: dict[str, Any]) -> int:
    mode = config.get("pooling_mode")
    if mode is not None:
        return 1 if isinstance(mode, str) else len(mode)
    return max(1, sum(bool(config.get(key)) for key in _POOLING_MODES))


def _table_width(weights: Path) -> int | None:
    # A safetensors file begins with the length of its header (8 bytes, little-endian) and the header as JSON.
    try:
        with weights.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 1 << 20)))
    except (OSError, ValueError, struct.error):
        return None
    return next((entry["shape"][1] for entry in header.values() if len(entry.get("shape", ())) == 2), None)


def _reader(modules: Sequence[Module], name: str) -> Module:
    """The module that tokenises documents: the first one, or the first on their route."""
    first = modules[0]
    return _reader(_document_route(first, name), name) if first.kind in {"Router", "Asym"} else first


def _document_route(router: Module, name: str) -> list[Module]:
    structure = router.config.get("structure") or {}
    types = router.config.get("types") or {}
    route = structure.get("document") or next(iter(structure.values()), None)
    if not route:
        raise UsageError(f"the files of model {name} don't say which modules its documents go through")
    return [module_at(router.folder, types[step], step) for step in route]


def max_tokens(reader: Module) -> int | None:
    """The largest input, special tokens included, as sentence-transformers works it out.

    `max_seq_length`, else the smaller of the tokenizer's `model_max_length` and the configuration's
    `max_position_embeddings`; never more than there are positions. None: no limit is known.
    """
    config = read_json(reader.folder / "config.json")
    tokenizer = read_json(reader.folder / "tokenizer_config.json")
    positions = config.get("max_position_embeddings")
    limits = []
    if (stated := reader.config.get("max_seq_length")) is not None:
        limits.append(int(stated))
    else:
        limits.append(int(tokenizer.get("model_max_length") or NO_LIMIT))
        if positions is not None and positions != -1:
            limits.append(int(positions))
    if positions is not None and config.get("model_type") in OFFSET_TYPES:
        limits.append(int(positions) - int(config.get("pad_token_id") or 0) - 1)
    limit = min(limits)
    return limit if limit < NO_LIMIT else None


def why_text(
    modules: Sequence[Module], settings: dict[str, Any], document_prompt: str, plain: bool
) -> str | None:
    """Why the model's input can't be made from tokenizer.json alone; None where it can."""
    first, others = modules[0], modules[1:]
    if first.kind != "Transformer":
        return f"its first module is {first.kind.rpartition('.')[2]}"
    if not (first.folder / "tokenizer.json").is_file():
        return "it has no tokenizer.json"
    if odd := [m.kind.rpartition(".")[2] for m in others if m.kind not in PLAIN_MODULES]:
        return f"its module {odd[0]} needs more than ids"
    if first.config.get("do_lower_case"):
        return "it changes texts to lower case first"
    if odd := sorted(key for key, value in first.config.items() if value and key not in PLAIN_SETTINGS):
        return f"its setting {odd[0]} can change the input"
    if first.config.get("transformer_task", "feature-extraction") != "feature-extraction":
        return f"its task is {first.config['transformer_task']}"
    if set(first.config.get("modality_config") or {"text"}) != {"text"}:
        return "it takes more than text"
    if plain and _has_chat_template(first.folder):
        return "it may put a chat template around texts"
    if document_prompt and any(m.config.get("include_prompt") is False for m in others):
        return "its pooling leaves the prompt out"
    return "it cuts its vectors short" if settings.get("truncate_dim") else None


def _has_chat_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").is_file() or bool(
        read_json(folder / "tokenizer_config.json").get("chat_template")
    )


def _tokenizers(folder: Path, reader: Module) -> Iterator[Path]:
    # Without a transformer in front the file only counts tokens, so any that the model has will do.
    for place in (reader.folder, folder):
        if (place / "tokenizer.json").is_file():
            yield place / "tokenizer.json"
    yield from sorted(folder.glob("*/tokenizer.json"))
