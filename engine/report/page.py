"""The page of a run: its speed, what limited it, and both over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise

from engine.report.charts import Point, line_chart
from engine.runtime.process.stats import Stats
from engine.runtime.report.closing import STAGE_NAMES, WAITS, device_of
from engine.runtime.report.efficiency import UNITS
from engine.runtime.report.record import RunRecord
from engine.runtime.report.summary import Memory, SpeedOfLight, Summary

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 960px;
  margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em; overflow-wrap: anywhere } h2 { font-size: 1.1em; margin: 2em 0 .3em }
svg { width: 100%; height: auto }
table { border-collapse: collapse } td, th { padding: .2em .9em .2em 0; text-align: right }
td:first-child, th:first-child, td.words, th.words { text-align: left } tr { border-bottom: 1px solid #ddd }
.legend span { margin-right: 1.2em } .legend i { display: inline-block; width: 1em; height: .7em;
  margin-right: .4em } .advice { font-size: 1.15em } .big { font-size: 2em; font-weight: 600 }
.note { color: #666 }
"""


def page(record: RunRecord) -> str:
    """The whole page, HTML in UTF-8, with everything that it needs inside."""
    title = escape(f"Run in {record.run_dir}")
    body = "\n".join(part for part in _parts(record) if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _parts(record: RunRecord) -> Iterator[str]:
    summary = record.summary or Summary()
    yield _head(record)
    yield _speed(summary.speed_of_light)
    yield from _charts(record)
    yield _stages(summary.stages)
    yield _memory(summary.memory, summary.peak_pss_bytes)
    yield _files(summary)


def _head(record: RunRecord) -> str:
    summary = record.summary
    if record.running:
        state = "still running"
    elif summary is None:
        state = "killed before it could write a summary; run the same command again to continue"
    else:
        state = f"{summary.status}, exit code {summary.exit_code}, after {_number(summary.seconds, 1)} s"
    began = ""
    if record.began is not None:
        began = f" that began {datetime.fromtimestamp(record.began, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = [f"<p>{escape(state)}</p>"]
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
    """What a growing sum gains a second between each two points, at the later one."""
    return [(t2, max(0.0, (s2 - s1) / (t2 - t1))) for (t1, s1), (t2, s2) in pairwise(sums) if t2 > t1]


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


def _memory(memory: Memory, peaks: Mapping[str, int]) -> str:
    if not memory.limit_bytes:
        return ""
    parts = memory.plan.parts if memory.plan else {}
    names = list(dict.fromkeys([*parts, *(name for name in peaks if name != "total")]))
    rows = [[name, _mebibytes(parts.get(name)), _mebibytes(peaks.get(name))] for name in names]
    rows.append(["together", _mebibytes(sum(parts.values()) or None), _mebibytes(peaks.get("total"))])
    limit = f"at most {_mebibytes(memory.limit_bytes)} ({memory.limit_source})"
    return f"<h2>Memory: {escape(limit)}</h2>\n" + _table(["part", "planned", "highest PSS"], rows)


def _files(summary: Summary) -> str:
    rows = [[f"files {name}", _number(count, 0)] for name, count in vars(summary.files).items() if count]
    rows += [[f"chunks {name}", _number(count, 0)] for name, count in vars(summary.chunks).items() if count]
    return "<h2>Files and chunks</h2>\n" + _table(["what", "count"], rows) if rows else ""


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
