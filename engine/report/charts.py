"""Line charts as SVG that stands in a page as it is: no script, no font, no network.

Colours, and that values show under a pointer, are the style sheet's.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from html import escape

#: Size of a chart in its own units, and the margins for what is written around it.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 250, 70, 12, 28, 32

#: Lines across a chart, about.
TICKS = 4

#: Places along a chart, at most, where its values show under a pointer.
PLACES = 120

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
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for tick in ticks:
        x, y = place(first, tick).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    for tick in nice_ticks(span):
        x = place(first + tick, 0).split(",")[0]
        if tick <= span:
            time = f"{short(tick)} s" if tick else "0"
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{time}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 14}">{escape(unit)}</text>')
    for number, line in enumerate(lines.values()):
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" class="line{number}"/>')
    parts += _values(lines, unit, first, span)
    return "".join([*parts, "</svg>", _legend(lines)])


def _values(lines: Mapping[str, Sequence[Point]], unit: str, first: float, span: float) -> Iterator[str]:
    """For each place along the chart a strip that shows the values there while a pointer is over it."""
    places = min(PLACES, max(len(line) for line in lines.values()))
    wide = (WIDTH - LEFT - RIGHT) / places
    for number in range(places):
        at, x = first + (number + 0.5) / places * span, LEFT + number * wide
        values = ", ".join(f"{name} {short(_nearest(line, at))}" for name, line in lines.items() if line)
        middle = x + wide / 2
        yield (
            f'<g class="at"><rect x="{x:.1f}" y="0" width="{wide:.1f}" height="{HEIGHT - BOTTOM}"/>'
            f'<line x1="{middle:.1f}" y1="{TOP}" x2="{middle:.1f}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text x="{WIDTH - RIGHT}" y="{TOP - 14}" text-anchor="end">'
            f"{short(at - first)} s: {escape(values)} {escape(unit)}</text></g>"
        )


def _nearest(line: Sequence[Point], at: float) -> float:
    """The value of the point that is next to this moment; the points are in order."""
    place = bisect_left(line, at, key=lambda point: point[0])
    near = line[max(0, place - 1) : place + 1]
    return min(near, key=lambda point: abs(point[0] - at))[1]


def _legend(lines: Mapping[str, Sequence[Point]]) -> str:
    if len(lines) < 2:
        return ""
    items = (f'<span><i class="line{number}"></i>{escape(name)}</span>' for number, name in enumerate(lines))
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
