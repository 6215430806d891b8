"""Reads the files of an image model without importing open_clip (which imports torch)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.models.cache import recall, remember
from engine.models.files.digest import model_digest
from engine.models.files.text_files import read_json
from engine.models.spec import ImageSpec

#: Mean and deviation of the pictures that OpenAI's CLIP was trained on; open_clip's default.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

#: Default preparation of a picture (open_clip's `PreprocessCfg`).
DEFAULT_PREPROCESS: dict[str, Any] = {
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}

#: Height and width in pixels where the architecture doesn't say (open_clip's `CLIPVisionCfg`).
DEFAULT_SIZE = 224

#: The names of a checkpoint in the order in which open_clip takes them.
WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip

#: Entries of open_clip's table that are known here, because a look-up imports torch in a child process.
KNOWN_TAGS: dict[tuple[str, str], dict[str, Any]] = {
    ("ViT-B-32", "laion2b_s34b_b79k"): {
        "hf_hub": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/",
        **DEFAULT_PREPROCESS,
    },
}

CONFIG = "open_clip_config.json"

#: The file in which `engine.models fetch` stores the name of the model in a folder.
MANIFEST = "manifest.json"

#: Seconds for a child process that imports open_clip and looks one name up.
LOOKUP_TIMEOUT_S = 120

_LOOKUP = """
import json, sys, open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
print(json.dumps([get_pretrained_cfg(*sys.argv[1:]), list_pretrained_tags_by_model(sys.argv[1])]))
"""


def weights_in(folder: Path) -> Path | None:
    """The checkpoint that open_clip would load from `folder`, or None."""
    return next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)


def is_image_folder(folder: Path) -> bool:
    """Whether a folder holds an open_clip configuration and weights."""
    return (folder / CONFIG).is_file() and weights_in(folder) is not None


def tag_of(folder: Path) -> tuple[str, str] | None:
    """Architecture and tag of open_clip under which a folder was fetched; None for any other folder."""
    manifest = folder / MANIFEST
    name = str(read_json(manifest).get("name") or "") if manifest.is_file() else ""
    architecture, separator, tag = name.partition("/")
    return (architecture, tag) if separator and knows(architecture) else None


def choose_files(names: Sequence[str]) -> list[str]:
    """Of a repository's files one checkpoint and the small ones beside it; empty without one."""
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None:
        return []
    others = [name for name in names if "/" not in name and name.endswith((".json", ".txt", ".model"))]
    return sorted({weights, *others})


def read_spec(folder: Path, name: str) -> ImageSpec:
    """The specification of the model in `folder`. Raises `UsageError` that names what is missing."""
    config = read_json(folder / CONFIG)
    weights = weights_in(folder)
    if not config:
        raise UsageError(f"{folder} is not an image model: it has no {CONFIG}")
    if weights is None:
        raise UsageError(f"{folder} has no weights: {WEIGHTS[0]} or {WEIGHTS[2]} is expected")
    if not isinstance(config.get("model_cfg"), dict):
        raise UsageError(f"{folder / CONFIG} has no model_cfg")
    digest = model_digest({CONFIG: folder / CONFIG, weights.name: weights})
    return _spec(name, folder, digest, config["model_cfg"], config.get("preprocess_cfg") or {}, weights.name)


def read_tagged_spec(folder: Path, architecture: str, tag: str) -> ImageSpec:
    """The specification of open_clip's own `architecture` with the weights of `tag` that are in `folder`."""
    preprocess = pretrained(architecture, tag)
    model = architecture_config(architecture)
    weights = weights_in(folder)
    if weights is None:
        raise UsageError(f"{folder} has no weights: {WEIGHTS[0]} or {WEIGHTS[2]} is expected")
    seen = {key: preprocess.get(key, value) for key, value in DEFAULT_PREPROCESS.items()}
    settings = json.dumps([architecture, seen], sort_keys=True)
    digest = model_digest({"weights": weights}, settings)
    notes: tuple[str, ...] = ()
    if bool(preprocess.get("quick_gelu")) != bool(model.get("quick_gelu")):
        better = architecture.removesuffix("-quickgelu") + (
            "-quickgelu" if preprocess.get("quick_gelu") else ""
        )
        notes = (f"{architecture}/{tag} was trained with another activation: {better}/{tag} is its name",)
    name = f"{architecture}/{tag}"
    return _spec(name, folder, digest, model, preprocess, weights.name, architecture, notes)


def _spec(
    name: str,
    folder: Path,
    digest: str,
    model: dict[str, Any],
    preprocess: dict[str, Any],
    weights_file: str,
    architecture: str | None = None,
    notes: tuple[str, ...] = (),
) -> ImageSpec:
    seen = {key: preprocess.get(key, value) for key, value in DEFAULT_PREPROCESS.items()}
    size = (model.get("vision_cfg") or {}).get("image_size", DEFAULT_SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    try:
        return ImageSpec(
            name=name,
            folder=str(folder),
            digest=digest,
            dimensions=int(model["embed_dim"]),
            normalized=True,
            size=(int(height), int(width)),
            mean=_triple(seen["mean"]),
            std=_triple(seen["std"]),
            resize_mode=seen["resize_mode"],
            interpolation="bilinear" if seen["interpolation"] == "bilinear" else "bicubic",
            fill_color=int(seen["fill_color"]),
            architecture=architecture,
            weights_file=weights_file,
            notes=notes,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the configuration of image model {name} can't be read: {error!r}") from error


def _triple(value: float | Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (value,) * 3 if isinstance(value, int | float) else value
    return float(red), float(green), float(blue)


def architecture_config(architecture: str) -> dict[str, Any]:
    """open_clip's own configuration of an architecture. Raises `UsageError` for one that it doesn't know."""
    found = importlib.util.find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        raise UsageError("image models need open_clip: pip install open-clip-torch")
    config = read_json(Path(found.submodule_search_locations[0]) / "model_configs" / f"{architecture}.json")
    if not config:
        raise UsageError(f"open_clip has no architecture {architecture!r}; one that it has is ViT-B-32")
    return config


def knows(architecture: str) -> bool:
    """Whether open_clip has an architecture of that name."""
    try:
        architecture_config(architecture)
    except UsageError:
        return False
    return True


def pretrained(architecture: str, tag: str) -> dict[str, Any]:
    """open_clip's entry for a tag: the hub repository, mean, deviation, resize mode and more.

    A child process asks open_clip, once for each of its versions: the table is Python there, and importing
    it imports torch.
    """
    architecture_config(architecture)
    if known := KNOWN_TAGS.get((architecture, tag)):
        return known
    name = f"open_clip/{importlib.metadata.version('open_clip_torch')}/{architecture}/{tag}.json"
    answer = recall(name)
    if answer is None:
        command = [sys.executable, "-W", "ignore", "-c", _LOOKUP, architecture, tag]
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, timeout=LOOKUP_TIMEOUT_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise UsageError(
                f"open_clip's settings of {architecture}/{tag} can't be read: {error}"
            ) from error
        answer = child.stdout
        remember(name, answer)
    entry, tags = json.loads(answer)
    if not entry:
        raise UsageError(f"open_clip has no weights {tag!r} for {architecture}: it has {', '.join(tags)}")
    return dict(entry)
