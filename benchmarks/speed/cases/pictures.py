"""How many photographs a second become uint8 at the model's size in one process, and how alike are they?

Against the steps of open_clip's own preprocessing that make the same of a file: decoding, RGB, resizing, cropping;
not its conversion to a tensor, nor the normalisation, which are the inference process's. Likeness is the cosine
of the demonstration CLIP's vectors, and of the pixels themselves after their mean is taken off, which is harder.
CPU seconds of one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.speed import debian
from benchmarks.speed.bench import BenchError, Outcome, interleaved
from engine.models.load import load_image
from engine.models.resolve import resolve_image
from engine.models.spec import ImageSpec
from engine.parsers import image
from engine.records import PictureSection, Pixels

GOAL, GOAL_COSINE = 2.0, 0.999

#: Of ViT-B/32 and ViT-L/14.
SIDE = 224

DEMO = "examples/demo-clip"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")
    add("--most", type=float, default=12.0, metavar="MP", help="leave larger photographs out (default 12)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    demo = resolve_image(DEMO)
    spec = replace(demo, size=(SIDE, SIDE))
    folders = debian.unpacked(args.packages or work / "packages", debian.PHOTOGRAPHS)
    paths = [path for path in debian.files(folders, ".jpg") if _megapixels(path) <= args.most]
    if not paths:
        raise BenchError(f"no photographs below {', '.join(map(str, folders))}")
    timed = interleaved(
        {
            "open_clip": lambda: [_theirs(path, _steps(spec)) for path in paths],
            "engine": lambda: [_ours(path, spec) for path in paths],
            "engine --exact-images": lambda: [_ours(path, spec, exact=True) for path in paths],
        },
        args.rounds,
    )
    for name, one in timed.items():
        rate = len(paths) / one.median
        outcome.rows.append({"by": name, "photographs/s": f"{rate:,.1f}", "ms each": f"{1e3 / rate:.1f}"})
    pixels = sum(_megapixels(path) for path in paths) / len(paths)
    outcome.said.append(f"{len(paths)} photographs of {pixels:.1f} megapixels on average")
    ratio = timed["open_clip"].median / timed["engine"].median
    outcome.goal("photographs/s ÷ open_clip's", ratio, GOAL)
    ours, theirs = (np.stack(each) for each in zip(*[_both(path, spec) for path in paths], strict=True))
    outcome.goal("lowest cosine of the pixels", _lowest(_flat(ours), _flat(theirs)), GOAL_COSINE, ".5f")
    # The demonstration CLIP looks at smaller pictures, made from the files in the same two ways.
    model = load_image(demo, "cpu", "float32", "auto")
    ours, theirs = (np.stack(each) for each in zip(*[_both(path, demo) for path in paths], strict=True))
    lowest = _lowest(model.embed_pixels(ours), model.embed_pixels(theirs))
    outcome.goal("lowest cosine of the demonstration CLIP's vectors", lowest, GOAL_COSINE, ".5f")
    return outcome


def _megapixels(path: Path) -> float:
    with Image.open(path) as picture:
        return picture.width * picture.height / 1e6


def _ours(path: Path, spec: ImageSpec, exact: bool = False) -> Pixels:
    (section,) = image.parse(str(path), "image/jpeg", spec, exact)
    if not isinstance(section, PictureSection):
        raise BenchError(f"{path}: {section.message}")
    return section.pixels


def _steps(spec: ImageSpec) -> Any:
    """open_clip's steps up to and with the crop and the conversion to RGB."""
    from open_clip.transform import image_transform
    from torchvision.transforms import Compose

    steps = image_transform(spec.size, is_train=False, mean=spec.mean, std=spec.std).transforms
    return Compose(steps[:-2])


def _theirs(path: Path, steps: Any) -> Pixels:
    with Image.open(path) as picture:
        made: Pixels = np.asarray(steps(ImageOps.exif_transpose(picture)))
    return made


def _both(path: Path, spec: ImageSpec) -> tuple[Pixels, Pixels]:
    return _ours(path, spec), _theirs(path, _steps(spec))


def _flat(pictures: Pixels) -> np.ndarray[Any, np.dtype[np.float64]]:
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    return flat - flat.mean(axis=1, keepdims=True)


def _lowest(ours: Any, theirs: Any) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
