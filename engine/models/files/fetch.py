"""Models as plain folders, to be carried to machines without a network: files, checksums, a manifest.

A folder that `fetch` made is a model by itself: sentence-transformers' or open_clip's own form, beside a
`manifest.json`. Its digest is that of the model under its name, so both fill one index.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.models.files import image_folder, text_files
from engine.models.resolve import DEMO_IMAGE_MODEL, resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec

#: The file beside a model's own that says what it is, and what its files must be.
MANIFEST = image_folder.MANIFEST


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model in a folder; `files` are (path in the folder, bytes, SHA-256 in hex)."""

    name: str
    kind: str
    digest: str
    dimensions: int
    files: tuple[tuple[str, int, str], ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.files)


def fetch(name: str, to: Path) -> tuple[Path, Fetched]:
    """Put the model of this name into a folder below `to`; returns the folder and what is in it.

    A folder that is there and whole is left as it is. The name is a hub id of sentence-transformers, or
    `architecture/tag` or `hf-hub:org/name` of open_clip; it is found as a run would find it. Raises
    `ModelNotFoundError` where it is nowhere, `UsageError` where the folder can't be written or holds
    something else.
    """
    target = to / re.sub(r"[^\w.-]+", "--", name.removeprefix("hf-hub:"))
    if target.exists():
        found = check(target)
        if found.name != name:
            raise UsageError(f"--to {to}: {target} holds {found.name} already")
        return target, found
    image = is_image(name)
    spec: TextSpec | ImageSpec = resolve_image(name) if image else resolve_text(name)
    if spec.folder is None:
        raise UsageError(f"{name}: it has no files to fetch")
    source = Path(spec.folder)
    present = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    wanted = (image_folder if image else text_files).choose_files(present)
    building = to / f".{target.name}.new"
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        files = tuple(_copy(source / one, building / one, one) for one in wanted)
        kind = "image" if image else "text"
        fetched = Fetched(name, kind, spec.digest, spec.dimensions, files)
        (building / MANIFEST).write_text(json.dumps(asdict(fetched), indent=1), encoding="utf-8")
        _check_same(building, fetched)
        building.rename(target)
    except OSError as error:
        raise UsageError(f"--to {to}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target, fetched


def is_image(name: str) -> bool:
    """Whether a name is open_clip's (`architecture/tag`, `hf-hub:org/name`), or the demonstration's."""
    architecture, separator, _ = name.partition("/")
    if name.startswith("hf-hub:") or name == DEMO_IMAGE_MODEL:
        return True
    return bool(separator) and image_folder.knows(architecture)


def check(folder: Path) -> Fetched:
    """What a folder that `fetch` made holds, every file read and compared.

    Raises `UsageError` that names the first file which is missing or differs.
    """
    try:
        content: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = tuple((str(path), int(size), str(digest)) for path, size, digest in content["files"])
        names = [str(content[key]) for key in ("name", "kind", "digest")]
        fetched = Fetched(names[0], names[1], names[2], int(content["dimensions"]), files)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}: no readable {MANIFEST} there; engine.models fetch writes one") from None
    for path, size, digest in files:
        try:
            with open(folder / path, "rb") as stream:
                same = os.fstat(stream.fileno()).st_size == size
                same = same and hashlib.file_digest(stream, "sha256").hexdigest() == digest
        except OSError as error:
            raise UsageError(f"{folder / path}: {(error.strerror or str(error)).lower()}") from None
        if not same:
            raise UsageError(f"{folder / path}: differs from its checksum in {MANIFEST}; fetch it again")
    _check_same(folder, fetched)
    return fetched


def _check_same(folder: Path, fetched: Fetched) -> None:
    """Raises `UsageError` where the folder is another model than the one that was fetched."""
    name = str(folder)
    spec: TextSpec | ImageSpec = resolve_image(name) if fetched.kind == "image" else resolve_text(name)
    if spec.digest != fetched.digest:
        raise UsageError(f"{folder}: is not {fetched.name}: its files have digest {spec.digest[:12]}")


def _copy(source: Path, target: Path, name: str) -> tuple[str, int, str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open(source, "rb") as old, open(target, "wb") as new:
        while block := old.read(1 << 20):
            digest.update(block)
            new.write(block)
        new.flush()
        os.fsync(new.fileno())
    return name, target.stat().st_size, digest.hexdigest()
