"""Pictures of the example corpus: scenes the demo CLIP has never seen, in every format and colour mode."""

from __future__ import annotations

import io
import random
from collections import Counter
from typing import Any

import numpy as np
from demo_clip.captions import COUNT_WORDS, full_caption, plural
from demo_clip.scenes import Scene, draw, random_scene
from PIL import Image

#: Pixels of a picture, by format: what compresses badly is kept small.
SIZES = {
    "jpg": (800, 600),
    "webp": (560, 560),
    "png": (240, 200),
    "gif": (220, 220),
    "tiff": (200, 240),
    "bmp": (120, 90),
}

#: EXIF's tag for how the camera was held, and what undoes each of its values used here.
ORIENTATION = 0x0112
_TURNED = {
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}

#: (format, how it is kept, how many): `exif-N` is stored turned, `frames` has a second one that isn't shown.
_KINDS = (
    ("jpg", "plain", 17), ("jpg", "exif-3", 1), ("jpg", "exif-5", 1), ("jpg", "exif-6", 2),
    ("jpg", "exif-8", 1), ("jpg", "cmyk", 1), ("jpg", "grey", 1), ("jpg", "progressive", 1),
    ("png", "plain", 8), ("png", "palette", 2), ("png", "alpha", 2), ("png", "grey-alpha", 1),
    ("png", "16-bit", 1), ("png", "1-bit", 1), ("webp", "plain", 7), ("webp", "alpha", 1),
    ("webp", "lossless", 1), ("gif", "palette", 4), ("gif", "frames", 1), ("tiff", "plain", 3),
    ("tiff", "cmyk", 1), ("tiff", "16-bit", 1), ("bmp", "plain", 2), ("bmp", "palette", 1),
    ("bmp", "1-bit", 1),
)  # fmt: skip

#: Kinds that keep no colour, so that the scene must do without.
_COLOURLESS = ("grey", "grey-alpha", "16-bit", "1-bit")

#: Scenes that the searches of the documentation look for.
_WANTED = (
    Scene("circle", "red", 1, "large", "centre", "white"),
    Scene("circle", "red", 1, "medium", "left", "grey"),
    Scene("circle", "red", 1, "small", "top right", "black"),
    Scene("circle", "red", 1, "medium", "centre", "yellow"),
    Scene("circle", "red", 2, "medium", None, "white"),
    Scene("square", "blue", 2, "medium", None, "white"),
    Scene("square", "blue", 2, "medium", None, "grey"),
    Scene("square", "blue", 3, "medium", None, "yellow"),
    Scene("triangle", "green", 1, "small", "top left", "white"),
    Scene("triangle", "green", 1, "large", "centre", "pink"),
    Scene("star", "yellow", 1, "large", "centre", "black"),
    Scene("star", "yellow", 3, "medium", None, "blue"),
    Scene("heart", "red", 1, "medium", "centre", "pink"),
    Scene("ring", "orange", 4, "medium", None, "black"),
)


def pictures() -> dict[str, bytes]:
    """Every picture by its path below the corpus."""
    rng = random.Random("example corpus")
    coloured = list(_WANTED)
    files: dict[str, bytes] = {}
    seen = {full_caption(scene).text for scene in coloured}
    names: Counter[str] = Counter()
    for suffix, kind, count in _KINDS:
        for _ in range(count):
            bare = kind in _COLOURLESS
            scene = coloured.pop(0) if coloured and not bare else _new_scene(rng, seen, kind)
            name = slug(scene)
            names[name] += 1
            number = f"-{names[name]}" if names[name] > 1 else ""
            note = "" if kind == "plain" else f"-{kind}"
            files[f"pictures/{suffix}/{name}{number}{note}.{suffix}"] = _encoded(scene, suffix, kind, rng)
    return files


def slug(scene: Scene) -> str:
    """What is on the picture, fit for a file's name."""
    number = COUNT_WORDS[scene.count][0] if scene.count > 1 else scene.size
    shape = scene.shape if scene.count == 1 else plural(scene.shape)
    return f"{number}-{scene.colour}-{shape}-on-{scene.background}"


def picture_bytes(scene: Scene, suffix: str, rng: random.Random) -> bytes:
    """One plain picture of the scene."""
    return _encoded(scene, suffix, "plain", rng)


def _new_scene(rng: random.Random, seen: set[str], kind: str) -> Scene:
    """A scene that no picture shows yet; without colour where the kind of picture keeps none."""
    plain = ("black", "white") if kind == "1-bit" else ("black", "white", "grey")
    while True:
        scene = random_scene(rng)
        if kind in _COLOURLESS and not (scene.colour in plain and scene.background in plain):
            continue
        if kind.endswith("alpha") and (scene.background != "white" or scene.colour in ("yellow", "pink")):
            continue
        caption = full_caption(scene).text
        if caption not in seen:
            seen.add(caption)
            return scene


def _encoded(scene: Scene, suffix: str, kind: str, rng: random.Random) -> bytes:
    width, height = SIZES[suffix]
    if rng.random() < 0.3:
        width, height = height, width
    picture = draw(scene, width, height, rng, grain=0.25 if suffix in ("jpg", "webp") else 0)
    stream = io.BytesIO()
    if kind.startswith("exif-"):
        orientation = int(kind[-1])
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        picture.transpose(_TURNED[orientation]).save(stream, "JPEG", quality=85, exif=exif)
    elif kind == "frames":
        other = draw(random_scene(rng), width, height, rng, grain=0)
        frames = [frame.quantize(64) for frame in (picture, other)]
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:], duration=800)
    else:
        options: dict[str, dict[str, Any]] = {
            "jpg": {"quality": 85, "progressive": kind == "progressive"},
            "webp": {"quality": 85, "lossless": kind == "lossless"},
            "png": {"optimize": True},
            "tiff": {"compression": "tiff_lzw"},
        }
        pillow_name = {"jpg": "JPEG"}.get(suffix, suffix.upper())
        _in_mode(picture, kind, suffix).save(stream, pillow_name, **options.get(suffix, {}))
    return stream.getvalue()


def _in_mode(picture: Image.Image, kind: str, suffix: str) -> Image.Image:
    """The RGB picture in the mode that the kind names."""
    if kind == "cmyk":
        return picture.convert("CMYK")
    if kind == "grey":
        return picture.convert("L")
    if kind == "1-bit":
        return picture.convert("L").point(lambda level: 255 * (level > 127)).convert("1")
    if kind == "16-bit":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if kind == "palette" or suffix == "gif":
        return picture.quantize(64)
    if kind.endswith("alpha"):
        # The paper is see-through and white beneath, so that it looks the same however it is laid on white.
        level = np.asarray(picture.convert("L")).astype(np.int16)
        cover = Image.fromarray(np.where(level > 235, 0, 255).astype(np.uint8))
        paper = Image.new("RGB", picture.size, "white")
        paper.paste(picture, mask=cover)
        paper = paper.convert("L") if kind == "grey-alpha" else paper
        paper.putalpha(cover)
        return paper
    return picture
