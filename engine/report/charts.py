"""Line charts as SVG that stands in a page as it is: no script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

#: Size of a chart in its own units, and the margins for what is written around it.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 250, 70, 12, 28, 32

#: Colours that people with colour blindness can tell apart (Okabe and Ito, 2008), dark enough on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#000000")

#: Lines across a chart, about.
TICKS = 4

Point = tuple[float, float]


def line_chart(lines: Mapping[str, Sequence[Point]], unit: str, most: float | None = None) -> str:
    """The lines by name, each of (seconds, value), over one axis in `unit` that starts at 0 and ends at
    `most` or at what is the highest; an empty string where there are fewer than two points."""
    points = [point for line in lines.values() for point in line]
    if len(points) < 2:
        return ""
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    span = max(last - first, 1e-9)
    highest = max(y for _, y in points)
    ticks = nice_ticks(highest if most is None else most)
    top = max(ticks[-1], highest)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + (x - first) / span * wide:.1f},{TOP + (1 - y / top) * high:.1f}"

    label = f"{escape(unit)} over time"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" fill="#555" font-size="12" role="img" aria-label="{label}">'
    ]
    for tick in ticks:
        x, y = place(first, tick).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in nice_ticks(span):
        x = place(first + tick, 0).split(",")[0]
        if tick <= span:
            time = f"{short(tick)} s" if tick else "0"
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{time}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 14}">{escape(unit)}</text>')
    for colour, line in zip(COLOURS, lines.values(), strict=False):
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return "".join([*parts, "</svg>", _legend(lines)])


def _legend(lines: Mapping[str, Sequence[Point]]) -> str:
    if len(lines) < 2:
        return ""
    items = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in zip(COLOURS, lines, strict=False)
    )
    return f'<p class="legend">{"".join(items)}</p>'


def nice_ticks(most: float) -> list[float]:
    """From 0 to `most` or a little beyond, in steps of 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [index * step for index in range(math.ceil(most / step - 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis: 1,500 is 1.5k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
