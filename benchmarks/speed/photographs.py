"""Many different photographs: pieces of a Debian package's, or of noise that compresses like them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import BenchError
from benchmarks.speed import debian
from engine.machine.cores import cores

#: Width and height of each, in pixels: 3.1 megapixels.
SIZE = (2048, 1536)

#: Sides of the squares of noise that are laid over each other, from the coarse to the fine.
OCTAVES = (512, 128, 32, 8, 2)

#: Large pictures of noise, of which pieces are cut.
WHOLE = 2

#: How a camera saves: baseline, of good quality.
QUALITY = 92


def write(folder: Path, count: int, packages: Path | None) -> None:
    """So many JPEGs, no two alike, as a camera saves them; without `packages` they are made of noise.

    Raises `BenchError` where the package can't be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if packages is None:
        piece, threads = _pieces_of_noise(random.Random(3)), cores()
    else:
        Image.MAX_IMAGE_PIXELS = None
        sources = debian.files(debian.unpacked(packages, debian.PHOTOGRAPHS), ".jpg")
        if not sources:
            raise BenchError(f"no photographs below {packages}")
        piece, threads = _pieces(sources, random.Random(3)), 1

    def save(number: int) -> None:
        piece(number).save(folder / f"{number:05d}.jpg", quality=QUALITY, progressive=False)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(save, range(count)))


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


def _pieces_of_noise(chance: random.Random) -> Callable[[int], Image.Image]:
    """Cuts its pictures out of a few large ones, which take seconds each."""
    whole = [_noise(seed) for seed in range(WHOLE)]

    def piece(number: int) -> Image.Image:
        left, top = chance.randint(0, SIZE[0]), chance.randint(0, SIZE[1])
        return whole[number % WHOLE].crop((left, top, left + SIZE[0], top + SIZE[1]))

    return piece


def _noise(seed: int) -> Image.Image:
    """Noise of all sizes, the coarser the stronger, as photographs have it; twice as wide and high."""
    chance = np.random.default_rng(seed)
    width, height = 2 * SIZE[0], 2 * SIZE[1]
    total = np.zeros((height, width, 3), dtype=np.float32)
    for side in OCTAVES:
        coarse = chance.integers(0, 256, (height // side, width // side, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(picture, dtype=np.float32) * side**0.5
    return Image.fromarray((total / sum(side**0.5 for side in OCTAVES)).astype(np.uint8))
