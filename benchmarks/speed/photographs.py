"""Many different photographs: pieces of a Debian package's, or of noise that compresses like them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import BenchError
from benchmarks.speed import debian

#: Width and height of each, in pixels: 3.1 megapixels.
SIZE = (2048, 1536)

#: Sides of the squares of noise that are laid over each other, from the coarse to the fine.
OCTAVES = (512, 128, 32, 8, 2)

#: How a camera saves: baseline, of good quality.
QUALITY = 92


def write(folder: Path, count: int, packages: Path | None) -> None:
    """So many JPEGs, no two alike, as a camera saves them; without `packages` they are made of noise.

    Raises `BenchError` where the package can't be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(3)
    piece: Callable[[int], Image.Image] = _noise
    if packages is not None:
        Image.MAX_IMAGE_PIXELS = None
        sources = debian.files(debian.unpacked(packages, debian.PHOTOGRAPHS), ".jpg")
        if not sources:
            raise BenchError(f"no photographs below {packages}")
        piece = _pieces(sources, chance)
    for number in range(count):
        path = folder / f"{number:05d}.jpg"
        piece(number).save(path, quality=QUALITY, progressive=False)


def _pieces(sources: Sequence[Path], chance: random.Random) -> Callable[[int], Image.Image]:
    """Takes a random piece of each photograph in turn, which is opened once for many pieces."""
    opened: dict[Path, Image.Image] = {}

    def piece(number: int) -> Image.Image:
        path = sources[number // 8 % len(sources)]
        if path not in opened:
            opened.clear()
            with Image.open(path) as whole:
                opened[path] = whole.convert("RGB")
        picture = opened[path]
        zoom = min(picture.width / SIZE[0], picture.height / SIZE[1]) * chance.uniform(0.6, 1.0)
        width, height = int(SIZE[0] * zoom), int(SIZE[1] * zoom)
        left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
        return picture.resize(SIZE, Image.Resampling.BILINEAR, (left, top, left + width, top + height))

    return piece


def _noise(seed: int) -> Image.Image:
    """Noise of all sizes, the coarser the stronger, as photographs have it."""
    chance = np.random.default_rng(seed)
    total = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.float32)
    for side in OCTAVES:
        coarse = chance.integers(0, 256, (SIZE[1] // side, SIZE[0] // side, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
        total += np.asarray(picture, dtype=np.float32) * side**0.5
    return Image.fromarray((total / sum(side**0.5 for side in OCTAVES)).astype(np.uint8))
