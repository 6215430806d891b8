"""Synthetic pictures with a known content: what is on them is drawn first as a `Scene`, then as pixels.

The demo CLIP is trained on these pictures and the example corpus shows others of them, so both draw here.
"""

from __future__ import annotations

import math
import random
import zlib
from colorsys import hls_to_rgb
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")

#: Hue, lightness and saturation ranges (HLS, hue in degrees) from which each colour is drawn.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-9, 5), (0.40, 0.52), (0.75, 1.0)),
    "orange": ((24, 34), (0.48, 0.56), (0.9, 1.0)),
    "yellow": ((50, 58), (0.48, 0.60), (0.85, 1.0)),
    "green": ((105, 150), (0.26, 0.44), (0.6, 1.0)),
    "blue": ((212, 238), (0.36, 0.56), (0.7, 1.0)),
    "purple": ((268, 286), (0.33, 0.48), (0.5, 0.9)),
    "pink": ((322, 345), (0.70, 0.80), (0.75, 1.0)),
    "brown": ((20, 30), (0.20, 0.30), (0.5, 0.75)),
    "black": ((0, 360), (0.0, 0.07), (0.0, 0.3)),
    "white": ((0, 360), (0.95, 1.0), (0.0, 0.3)),
    "grey": ((0, 360), (0.45, 0.62), (0.0, 0.06)),
}
BACKGROUNDS = ("white", "black", "grey", "yellow", "green", "blue", "pink")
COUNTS = (1, 2, 3, 4)
SIZES = ("small", "medium", "large")

#: Rows and columns of the nine places in which a single shape can lie; only `centre` holds a large one.
PLACES = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip

#: Radius of a shape as a share of the picture's shorter side: by size for one shape, by count for several.
RADIUS = {"small": (0.09, 0.125), "medium": (0.18, 0.23), "large": (0.32, 0.40)}
RADIUS_OF_COUNT = {2: (0.14, 0.20), 3: (0.12, 0.165), 4: (0.11, 0.15)}

#: Everything drawn stays this far inside the central square, as a share of the shorter side.
MARGIN = 0.03

#: Pictures are drawn this many times larger and then reduced, which smooths their edges.
SUPERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows. `place` is None for several shapes, whose places are not told."""

    shape: str
    colour: str
    count: int
    size: str
    place: str | None
    background: str


def random_scene(rng: random.Random) -> Scene:
    """A scene of which every attribute is drawn evenly, and whose colour can be told from its background."""
    background = rng.choice(BACKGROUNDS)
    colour = rng.choice([name for name in COLOURS if name != background])
    count = rng.choice(COUNTS)
    if count > 1:
        return Scene(rng.choice(SHAPES), colour, count, "medium", None, background)
    size = rng.choice(SIZES)
    place = "centre" if size == "large" else rng.choice(PLACES)
    return Scene(rng.choice(SHAPES), colour, 1, size, place, background)


def held_out(scene: Scene) -> bool:
    """Whether training never shows this joining of shape, colour, count and background: one in ten."""
    joined = f"{scene.shape} {scene.colour} {scene.count} {scene.background}"
    return zlib.crc32(joined.encode()) % 10 == 0


def draw(scene: Scene, width: int, height: int, rng: random.Random, grain: float = 0.25) -> Image.Image:
    """The scene as an RGB picture of that size in pixels; all shapes lie in its central square.

    `grain` is how often a picture is given some noise, from 0 to 1.
    """
    scale = SUPERSAMPLING
    picture = _background(scene.background, width * scale, height * scale, rng)
    pen = ImageDraw.Draw(picture)
    side = min(width, height) * scale
    left, top = (width * scale - side) / 2, (height * scale - side) / 2
    colour = _colour(scene.colour, rng)
    for x, y, radius in _layout(scene, rng):
        tilt = rng.uniform(-0.2, 0.2)
        _shape(
            pen, scene.shape, left + x * side, top + y * side, radius * side, tilt, colour, scene.background
        )
    picture = picture.reduce(scale)
    if rng.random() < 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(side / scale * rng.uniform(0.001, 0.006)))
    if rng.random() < grain:
        picture = _with_grain(picture, rng)
    return picture


def _layout(scene: Scene, rng: random.Random) -> list[tuple[float, float, float]]:
    """Centre and radius of each shape, in shares of the central square's side."""
    if scene.count == 1:
        radius = rng.uniform(*RADIUS[scene.size])
        row, column = divmod(PLACES.index(scene.place or "centre"), 3)
        inner = 1 - 2 * (radius + MARGIN)
        jitter = min(0.035, inner / 8)
        x, y = (radius + MARGIN + inner * step / 2 + rng.uniform(-jitter, jitter) for step in (column, row))
        return [(_inside(x, radius), _inside(y, radius), radius)]
    while True:
        placed: list[tuple[float, float, float]] = []
        base = rng.uniform(*RADIUS_OF_COUNT[scene.count])
        for _ in range(60):
            radius = base * rng.uniform(0.92, 1.08)
            reach = radius + MARGIN
            x, y = rng.uniform(reach, 1 - reach), rng.uniform(reach, 1 - reach)
            if all(math.hypot(x - px, y - py) > 1.12 * (radius + pr) for px, py, pr in placed):
                placed.append((x, y, radius))
            if len(placed) == scene.count:
                return placed


def _with_grain(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Noise of a few grey levels over the picture."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(
        0, rng.uniform(1, 6), (picture.height, picture.width, 1)
    )
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def _inside(centre: float, radius: float) -> float:
    return min(max(centre, radius + MARGIN / 2), 1 - radius - MARGIN / 2)


def _colour(name: str, rng: random.Random) -> tuple[int, int, int]:
    hue, lightness, saturation = (rng.uniform(*span) for span in COLOURS[name])
    red, green, blue = hls_to_rgb(hue / 360 % 1, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _background(name: str, width: int, height: int, rng: random.Random) -> Image.Image:
    """Plain, or a soft run between two shades of the same colour."""
    first = _colour(name, rng)
    if rng.random() < 0.5:
        return Image.new("RGB", (width, height), first)
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize((width, height))
    return Image.composite(
        Image.new("RGB", (width, height), _colour(name, rng)), Image.new("RGB", (width, height), first), ramp
    )


def _shape(
    pen: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, tilt: float,
    colour: tuple[int, int, int], background: str,
) -> None:  # fmt: skip
    """Fill one shape of that radius (of the circle around it) at x, y; `tilt` turns it, in radians."""
    if shape == "circle":
        r = radius * 0.92
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        return
    if shape == "ring":
        pen.ellipse(
            (x - radius, y - radius, x + radius, y + radius),
            outline=colour,
            width=max(2, round(radius * 0.36)),
        )
        return
    cosine, sine = math.cos(tilt), math.sin(tilt)
    points = [
        (x + radius * (px * cosine - py * sine), y + radius * (px * sine + py * cosine))
        for px, py in OUTLINES[shape]
    ]
    pen.polygon(points, fill=colour)


def _wheel(count: int, start: float, radii: tuple[float, ...] = (1.0,)) -> tuple[tuple[float, float], ...]:
    """Points at even angles from `start` (degrees), their radii taken in turn."""
    angles = [math.radians(start + 360 * step / count) for step in range(count)]
    return tuple(
        (radii[step % len(radii)] * math.cos(angle), radii[step % len(radii)] * math.sin(angle))
        for step, angle in enumerate(angles)
    )


def _heart() -> tuple[tuple[float, float], ...]:
    """The well-known curve x = 16 sin³t, y = 13 cos t − 5 cos 2t − 2 cos 3t − cos 4t, within radius 1."""
    points = []
    for step in range(48):
        t = 2 * math.pi * step / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3 / 17, -(y + 2.5) / 17))
    return tuple(points)


#: Corners of each straight-edged shape around the origin, within radius 1, y downwards.
OUTLINES = {
    "square": _wheel(4, 45),
    "triangle": _wheel(3, -90),
    "star": _wheel(10, -90, (1.0, 0.42)),
    "diamond": ((0, -1.0), (0.68, 0), (0, 1.0), (-0.68, 0)),
    "cross": (
        (-0.28, -0.92), (0.28, -0.92), (0.28, -0.28), (0.92, -0.28), (0.92, 0.28), (0.28, 0.28),
        (0.28, 0.92), (-0.28, 0.92), (-0.28, 0.28), (-0.92, 0.28), (-0.92, -0.28), (-0.28, -0.28),
    ),
    "heart": _heart(),
}  # fmt: skip
