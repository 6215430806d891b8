"""The files of a sentence-transformers folder: which there are, and which of them matter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import UsageError

#: The names that a Transformer module's settings have had in sentence-transformers, newest first.
SETTINGS_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

#: Weights in the order in which transformers takes them; an index names the files that it is split into.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

#: Files beside the weights on which vectors can depend.
CONFIGURATION = (
    "config.json", *SETTINGS_FILES, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja",
)  # fmt: skip

#: Vocabularies, read only where there is no tokenizer.json.
VOCABULARIES = (
    "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
)  # fmt: skip

#: Modules after the transformer that take nothing but its output, so that ids and mask reproduce the model.
PLAIN_MODULES = {"Pooling", "Dense", "Normalize", "LayerNorm", "Dropout"}

#: Folders of a repository with the same weights for other libraries.
OTHER_FORMS = {("onnx",), ("openvino",)}

#: Files of a repository that are fetched beside the weights.
USEFUL_SUFFIXES = (".json", ".txt", ".model", ".py", ".jinja")


@dataclass(frozen=True, slots=True)
class Module:
    """One line of modules.json; `kind` is the class's name, with its whole path if not the library's own."""

    kind: str
    folder: Path
    config: dict[str, Any]


def is_text_folder(folder: Path) -> bool:
    """Whether a whole text model lies here: a cache may hold a part of one."""
    try:
        model_files(folder, read_modules(folder), trust_remote_code=False)
    except UsageError:
        return False
    return True


def read_modules(folder: Path) -> list[Module]:
    """The modules in order; a plain transformer gets the pooling that sentence-transformers would give it."""
    listed = folder / "modules.json"
    if not listed.is_file():
        config = read_json(folder / "config.json")
        if not config:
            raise UsageError(f"{folder} is not a text model: it has neither modules.json nor config.json")
        causal = str((config.get("architectures") or [""])[0]).endswith("ForCausalLM")
        mode = "lasttoken" if causal and config.get("is_causal", True) else "mean"
        return [Module("Transformer", folder, {}), Module("Pooling", folder, {"pooling_mode": mode})]
    try:
        lines = json.loads(listed.read_text(encoding="utf-8"))
        modules = [module_at(folder, line["type"], line["path"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{listed} is not a list of modules: {error}") from error
    if not modules:
        raise UsageError(f"{listed} lists no module")
    return modules


def module_at(folder: Path, type_: str, path: str) -> Module:
    """The module of class `type_` whose files are in `path` of `folder`."""
    kind = type_.rpartition(".")[2] if type_.startswith("sentence_transformers.") else type_
    place = folder / path
    names = {
        "Transformer": SETTINGS_FILES,
        "Router": ("router_config.json", "config.json"),
        "Asym": ("router_config.json", "config.json"),
    }.get(kind, ("config.json",))
    config = next((found for name in names if (found := read_json(place / name))), {})
    return Module(kind, place, config)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; empty where there is no such file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} can't be read: it holds no JSON object")
    return value


def weights_in(folder: Path) -> list[Path] | None:
    """The weight files that transformers would load from `folder`; None where there are none."""
    for name in WEIGHTS:
        path = folder / name
        if path.is_file():
            if path.suffix != ".json":
                return [path]
            parts = {folder / part for part in read_json(path).get("weight_map", {}).values()}
            return [path, *sorted(parts)] if all(part.is_file() for part in parts) else None
    return None


def model_files(folder: Path, modules: Sequence[Module], trust_remote_code: bool) -> dict[str, Path]:
    """The files on which the model's vectors depend, by their names inside the folder."""
    paths = [folder / "modules.json", folder / "config_sentence_transformers.json"]
    for module in modules:
        weights = weights_in(module.folder)
        if module.kind == "Transformer":
            if weights is None:
                raise UsageError(f"{module.folder} has no weights: neither {WEIGHTS[0]} nor {WEIGHTS[2]}")
            paths += [*weights, *(module.folder / name for name in CONFIGURATION)]
            if not (module.folder / "tokenizer.json").is_file():
                paths += [module.folder / name for name in VOCABULARIES]
        elif module.kind in PLAIN_MODULES:
            # One at the root has no files of its own: what lies there is the transformer's.
            if module.folder != folder:
                paths += [module.folder / "config.json", *(weights or [])]
        else:
            paths += _everything(module.folder)
    if trust_remote_code:
        paths += folder.rglob("*.py")
    return {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}


def _everything(place: Path) -> Iterator[Path]:
    for path in place.rglob("*"):
        parts = path.relative_to(place).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix != ".md" and not hidden and parts[:1] not in OTHER_FORMS:
            yield path


def choose_files(names: Sequence[str]) -> list[str]:
    """Of a repository's files those that a text model needs; of several forms of weights only one.

    Empty where the repository has no weights that can be loaded.
    """
    weights: set[str] = set()
    for place in {PurePosixPath(name).parent for name in names}:
        here = {PurePosixPath(name).name for name in names if PurePosixPath(name).parent == place}
        form = next((form for form in WEIGHTS if form in here), None)
        if form is None or place.parts[:1] in OTHER_FORMS:
            continue
        stem, suffix = form.removesuffix(".index.json").rsplit(".", 1)
        parts = {name for name in here if name.startswith(f"{stem}-") and name.endswith(suffix)}
        weights |= {
            (place / name).as_posix() for name in ({form} | parts if form.endswith(".json") else {form})
        }
    if not weights:
        return []
    return sorted(
        name
        for name in names
        if name in weights
        or (name.endswith(USEFUL_SUFFIXES) and PurePosixPath(name).parts[:1] not in OTHER_FORMS)
    )
