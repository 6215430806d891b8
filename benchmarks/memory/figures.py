"""What is made of samples: tables, JSON with the environment, slopes, plots of the stages stacked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.memory.sampler import Measurement, Series

#: From the bottom of a plot upwards: what grows least first.
ORDER = ("supervisor", "starting", "indexer", "inference", "parsers")


class PlotError(Exception):
    """A plot was asked for and can't be made; the text is for the user."""


def megabytes(size: float) -> str:
    """Bytes as MB with one decimal."""
    return f"{size / 1e6:,.1f}"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Markdown: the first row's keys are the heads, text to the left and numbers to the right."""
    if not rows:
        return ""
    heads = list(rows[0])
    cells = [[str(row.get(head, "")) for head in heads] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    left = [isinstance(rows[0][head], str) and not _numeric(cells[0][i]) for i, head in enumerate(heads)]

    def line(values: Sequence[str]) -> str:
        padded = (
            v.ljust(w) if at_left else v.rjust(w) for v, w, at_left in zip(values, widths, left, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (w + 1) + ("-" if at_left else ":") for w, at_left in zip(widths, left, strict=True)
    )
    return "\n".join([line(heads), f"|{rule}|", *map(line, cells)])


def _numeric(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("-", "").replace("+", "").strip().isdigit()


def slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of y over x and its standard error; (nan, nan) for fewer than three points.

    The error is that of independent residuals. Neighbouring samples aren't: take it for a lower bound.
    """
    if len(x) < 3 or len(set(x)) < 2:
        return float("nan"), float("nan")
    steepness, intercept = statistics.linear_regression(x, y)
    residue = sum((b - intercept - steepness * a) ** 2 for a, b in zip(x, y, strict=True))
    mean = statistics.fmean(x)
    spread = sum((a - mean) ** 2 for a in x)
    return steepness, (residue / (len(x) - 2) / spread) ** 0.5


def second_half(series: Series, values: Sequence[int]) -> tuple[list[float], list[float]]:
    """Progress and bytes of those samples in which at least half of the last progress, and not all, was made.

    What has made all is about to end.
    """
    last = max(series.progress, default=0.0)
    pairs = [(p, float(v)) for p, v in zip(series.progress, values, strict=True) if last / 2 <= p < last]
    return [p for p, _ in pairs], [v for _, v in pairs]


def peak_row(measured: Measurement) -> dict[str, object]:
    """The peaks of a table's row, in MB: the sum first, then each stage."""
    return {stage: megabytes(size) for stage, size in measured.peaks.items()}


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write figures with what they were measured on."""
    # Imported at the end only: the ruler is to map as little as it can while it measures.
    from engine.runtime.report.summary import environment

    machine = {**vars(environment()), "memory_bytes": psutil.virtual_memory().total}
    path.write_text(json.dumps({**content, "environment": machine}, indent=1), encoding="utf-8")


def check_plot(path: Path | None) -> None:
    """Raises `PlotError` where a plot is asked for and matplotlib isn't there. Doesn't import it."""
    if path is not None and find_spec("matplotlib") is None:
        raise PlotError(f"--plot {path}: matplotlib is not installed; uv pip install -e '.[bench]'")


def plot(path: Path, panels: Mapping[str, Measurement]) -> None:
    """A PNG with one panel for each measurement: its stages stacked over time, all on one scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = len(panels)
    figure, axes = pyplot.subplots(rows, 1, figsize=(9, 1.2 + 2.6 * rows), squeeze=False, sharey=True)
    for axis, (name, measured) in zip(axes[:, 0], panels.items(), strict=True):
        series = measured.series
        stages = sorted(series.stages, key=lambda stage: ORDER.index(stage) if stage in ORDER else len(ORDER))
        if series.seconds:
            stacked = [[size / 1e6 for size in series.stages[stage]] for stage in stages]
            axis.stackplot(series.seconds, stacked, labels=stages, linewidth=0)
        peak = measured.peaks["total"] / 1e6
        axis.axhline(peak, color="black", linewidth=0.6, linestyle=":")
        axis.set_title(f"{name}: peak {peak:,.1f} MB", fontsize=10, loc="left")
        axis.set_ylabel(f"{measured.unit.upper()}, MB")
        axis.margins(x=0)
        axis.legend(loc="lower right", fontsize=7)
    axes[-1, 0].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
