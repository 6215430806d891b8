"""How many photographs a second become uint8 at the model's size in one process, and how alike are they?

Against the steps of open_clip's own preprocessing that make the same of a file: decoding, RGB, resizing,
cropping; not its conversion to a tensor, nor the normalisation, which are the inference process's. The
photographs as they are in their package, some of them progressive; and all saved as cameras do. Likeness
is the cosine of the vectors of a ViT-B/32 (with random weights), and of the pixels themselves after their
mean is taken off. CPU seconds of one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmarks.command import BenchError
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome, interleaved
from engine import parsers
from engine.models.load import load_image
from engine.models.resolve import resolve_image
from engine.models.spec import ImageSpec
from engine.records import PictureSection, Pixels

GOAL, GOAL_COSINE = 2.0, 0.999

#: Of ViT-B/32 and ViT-L/14.
SIDE = 224

DEMO = "examples/demo-clip"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--packages", type=Path, metavar="DIR", help="unpacked Debian packages (default: in --work)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    Image.MAX_IMAGE_PIXELS = None
    outcome = Outcome()
    demo = resolve_image(DEMO)
    spec = replace(demo, size=(SIDE, SIDE))
    folders = debian.unpacked(args.packages or work / "packages", debian.PHOTOGRAPHS)
    packed = debian.files(folders, ".jpg")
    if not packed:
        raise BenchError(f"no photographs below {', '.join(map(str, folders))}")
    saved = [_as_a_camera(path, work / "photographs") for path in packed]
    _race(outcome, "as a camera saves them", saved, spec, args.rounds)
    _race(outcome, "as they are in the package", packed, spec, args.rounds)
    ours, theirs = (np.stack(each) for each in zip(*[_both(path, spec) for path in packed], strict=True))
    outcome.goal("lowest cosine of the pixels", _lowest(_flat(ours), _flat(theirs)), GOAL_COSINE, ".5f")
    embed = _random_clip(spec)
    lowest = _lowest(embed(ours), embed(theirs))
    outcome.goal("lowest cosine of a ViT-B/32's vectors", lowest, GOAL_COSINE, ".6f")
    # The demonstration CLIP looks at 64 x 64 and has never seen a photograph.
    model = load_image(demo, "cpu", "float32", "torch")
    ours, theirs = (np.stack(each) for each in zip(*[_both(path, demo) for path in packed], strict=True))
    lowest = _lowest(model.embed_pixels(ours), model.embed_pixels(theirs))
    outcome.said.append(f"lowest cosine of the demonstration CLIP's vectors, for drawings: {lowest:.5f}")
    return outcome


def _race(outcome: Outcome, what: str, paths: Sequence[Path], spec: ImageSpec, rounds: int) -> None:
    steps = _steps(spec)
    timed = interleaved(
        {
            "open_clip": lambda: [_theirs(path, steps) for path in paths],
            "engine": lambda: [_ours(path, spec) for path in paths],
            "engine --exact-images": lambda: [_ours(path, spec, exact=True) for path in paths],
        },
        rounds,
    )
    sizes = [_megapixels(path) for path in paths]
    for name, one in timed.items():
        rate = len(paths) / one.median
        row = {"photographs": f"{len(paths)} {what}", "megapixels": f"{np.mean(sizes):.1f}", "by": name}
        outcome.rows.append({**row, "photographs/s": f"{rate:,.1f}", "ms each": f"{1e3 / rate:.1f}"})
    ratio = timed["open_clip"].median / timed["engine"].median
    outcome.goal(f"photographs/s ÷ open_clip's, {what}", ratio, GOAL)


def _as_a_camera(path: Path, folder: Path) -> Path:
    """The photograph as a baseline JPEG."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as picture:
        picture.save(folder / path.name, quality=92, progressive=False)
    return folder / path.name


def _random_clip(spec: ImageSpec) -> Callable[[Pixels], Any]:
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", load_weights=False).eval()

    def embed(pixels: Pixels) -> Any:
        values = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
        with torch.inference_mode():
            return model.encode_image(torch.from_numpy(values).float().permute(0, 3, 1, 2)).numpy()

    return embed


def _megapixels(path: Path) -> float:
    with Image.open(path) as picture:
        return picture.width * picture.height / 1e6


def _ours(path: Path, spec: ImageSpec, exact: bool = False) -> Pixels:
    options = parsers.ParseOptions(lambda: spec, exact)
    (section,) = parsers.parse(parsers.LocalFile(str(path)), "image/jpeg", options)
    if not isinstance(section, PictureSection):
        raise BenchError(f"{path}: {section}")
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
    flat -= flat.mean(axis=1, keepdims=True)
    return flat


def _lowest(ours: Any, theirs: Any) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
