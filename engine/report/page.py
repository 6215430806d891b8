"""The page of a run: its speed, what limited it, and both over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from engine.report.charts import Point, line_chart
from engine.report.style import STYLE
from engine.report.tiles import tiles
from engine.runtime.process.stats import Stats
from engine.runtime.report.closing import STAGE_NAMES, WAITS, device_of
from engine.runtime.report.efficiency import UNITS
from engine.runtime.report.record import RunRecord
from engine.runtime.report.summary import SpeedOfLight, Summary

#: The least share of a plan that a part has to use, and the bytes up to which nothing is worth a word.
MUCH_LESS, LITTLE = 0.5, 64 * 2**20

#: Seconds over which a rate is measured, at least.
LEAST_S = 0.5


def page(record: RunRecord) -> str:
    """The whole page, HTML in UTF-8, with everything that it needs inside."""
    title = escape(f"Run in {record.run_dir}")
    body = "\n".join(part for part in _parts(record) if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _parts(record: RunRecord) -> Iterator[str]:
    summary = record.summary or Summary()
    yield tiles(record)
    yield _head(record)
    yield _speed(summary.speed_of_light)
    yield from _charts(record)
    yield _stages(summary.stages)
    yield _memory(summary)


def _head(record: RunRecord) -> str:
    summary = record.summary
    began = ""
    if record.began is not None:
        began = f" that began {datetime.fromtimestamp(record.began, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = []
    if record.run is not None:
        earlier = "; the earlier ones are not shown" if record.run > 1 else ""
        lines.append(f'<p class="note">Invocation {record.run} of this run directory{began}{earlier}.</p>')
    config = summary.config if summary is not None else {}
    named = [("database", "adapter"), ("text model", "text_model"), ("image model", "image_model"),
             ("workers", "workers"), ("backend", "backend"), ("device", "device")]  # fmt: skip
    shown = [f"{what}: {config[key]}" for what, key in named if config.get(key) is not None]
    lines.append(f'<p class="note">{escape("; ".join(shown))}</p>' if shown else "")
    return "\n".join(lines)


def _speed(speed: SpeedOfLight) -> str:
    if not speed.advice:
        return ""
    parts = ["<h2>Speed of light</h2>"]
    if speed.ratio is not None:
        digits = 0 if speed.unit == UNITS["text"] else 1
        parts.append(
            f'<p><span class="big">{100 * speed.ratio:.0f} %</span> of what is possible:'
            f" {_number(speed.end_to_end, digits)} of {_number(speed.bound, digits)}"
            f" {escape(speed.unit)} by {escape(device_of(speed))};"
            f" the model alone: {_number(speed.forward_only, digits)}.</p>"
        )
    parts.append(f'<p class="advice">{escape(speed.advice)}</p>')
    return "\n".join(parts)


def _charts(record: RunRecord) -> Iterator[str]:
    samples = record.samples
    if len(samples) < 2:
        yield '<p class="note">No time series: the run was too short, or an older engine made it.</p>'
        return

    def points(values: Iterable[float]) -> list[Point]:
        return [(each.seconds, value) for each, value in zip(samples, values, strict=True)]

    def rate(values: Iterable[float]) -> list[Point]:
        return rates(points(values))

    tokens, images = rate(s.tokens for s in samples), rate(s.images for s in samples)
    yield _chart("Throughput: text", {"tokens embedded": tokens}, "tokens/s")
    if any(s.images for s in samples):
        yield _chart("Throughput: pictures", {"pictures embedded": images}, "images/s")
    records = rate(s.records for s in samples)
    yield _chart("Throughput: database", {"records acknowledged": records}, "records/s")
    busy = {
        "parsers": rate(s.parsers_s for s in samples),
        "inference": rate(s.model_s for s in samples),
        "database": rate(s.database_s for s in samples),
    }
    yield _chart("Busy processes", busy, "processes")
    if record.buffer:
        fill = {"in flight": points(100 * s.in_flight / record.buffer for s in samples)}
        yield _chart("Queue fill: bytes in flight ÷ buffer", fill, "%", most=100)
    memory = {
        "supervisor": points(s.supervisor / 2**20 for s in samples),
        "parsers": points(s.parsers / 2**20 for s in samples),
        "inference": points(s.inference / 2**20 for s in samples),
        "indexer": points(s.indexer / 2**20 for s in samples),
    }
    yield _chart("Memory (PSS) by stage", memory, "MiB")


def rates(sums: Sequence[Point]) -> list[Point]:
    """What a growing sum gains a second between each two points, at the later one. Of points closer together
    than `LEAST_S` the later counts: what happens to be booked in a moment is no rate."""
    kept: list[Point] = []
    for point in sums:
        if len(kept) > 1 and point[0] - kept[-1][0] < LEAST_S:
            kept.pop()
        kept.append(point)
    return [(t2, max(0.0, (s2 - s1) / (t2 - t1))) for (t1, s1), (t2, s2) in pairwise(kept) if t2 > t1]


def _chart(title: str, lines: Mapping[str, Sequence[Point]], unit: str, most: float | None = None) -> str:
    drawn = line_chart(lines, unit, most)
    return f"<h2>{escape(title)}</h2>\n{drawn}" if drawn else ""


def _stages(stages: Mapping[str, Stats]) -> str:
    if not stages:
        return ""
    rows = []
    for name, stats in stages.items():
        words = WAITS.get(name, {})
        waited = [f"{words.get(on, on)} {_number(s, 1)} s" for on, s in stats.waits.items() if s >= 0.05]
        calls = [f"{call} {_number(each.seconds, 1)} s" for call, each in stats.calls.items()]
        rows.append([STAGE_NAMES.get(name, name), f"{_number(stats.busy_s, 1)} s",
                     f"{_number(stats.cpu_s, 1)} s", ", ".join(calls), ", ".join(waited)])  # fmt: skip
    return "<h2>Stages, whole run, all processes of a stage together</h2>\n" + _table(
        ["stage", "busy", "processor", "inside calls", "idle"], rows, words=(3, 4)
    )


def _memory(summary: Summary) -> str:
    memory = summary.memory
    if not memory.limit_bytes:
        return ""
    parts = memory.plan.parts if memory.plan else {}
    peaks = {"in flight": summary.peak_in_flight_bytes, **summary.peak_pss_bytes}
    whole, most = sum(parts.values()) or None, peaks.pop("total", None)
    rows = [(name, parts.get(name), peaks.get(name)) for name in dict.fromkeys([*parts, *peaks])]
    rows.append(("together", whole, most))
    limit = f"at most {_mebibytes(memory.limit_bytes)} ({memory.limit_source})"
    return f"<h2>Memory: {escape(limit)}</h2>\n" + _table(
        ["part", "planned", "highest", ""],
        ([name, _mebibytes(plan), _mebibytes(peak), _remark(plan, peak)] for name, plan, peak in rows),
        words=(3,),
    )


def _remark(planned: int | None, peak: int | None) -> str:
    """Where what a part took is far from what was planned."""
    if planned is None or peak is None:
        return ""
    if peak > planned:
        return f"{_mebibytes(peak - planned)} more than planned"
    if peak < MUCH_LESS * planned and planned - peak > LITTLE:
        return f"{100 * peak / planned:.0f} % of the plan, which is for larger files and batches"
    return ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = ()) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = (' class="words"' if place in words else "" for place in range(len(row)))
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    lines = [f"<tr>{cells(head, 'th')}</tr>", *(f"<tr>{cells(row, 'td')}</tr>" for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _mebibytes(size: float | None) -> str:
    return "" if size is None else f"{size / 2**20:,.0f} MiB"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
