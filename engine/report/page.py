"""The page of a run: what it reached, what limited it, and how that went over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any

from engine.report.charts import Point, line_chart
from engine.runtime.report.closing import WAITS
from engine.runtime.report.efficiency import UNITS
from engine.runtime.report.record import RunRecord

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

#: What the stages are called for people, by their names in `summary.json`.
STAGE_NAMES = {"parse": "parsers", "infer": "model", "index": "indexer", "supervise": "supervisor"}


def page(record: RunRecord) -> str:
    """The whole page, HTML in UTF-8, with everything that it needs inside."""
    title = escape(f"Run in {record.run_dir}")
    body = "\n".join(part for part in _parts(record) if part)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}\n</body></html>\n"
    )


def _parts(record: RunRecord) -> Iterator[str]:
    yield _head(record)
    summary = record.summary or {}
    yield _light(summary.get("speed_of_light"))
    yield from _charts(record)
    yield _stages(summary.get("stages"))
    yield _memory(summary.get("memory"), summary.get("peak_pss_bytes"))
    yield _files(summary)


def _head(record: RunRecord) -> str:
    summary = record.summary
    if record.running:
        state = "still running"
    elif summary is None:
        state = "ended without a summary: it was killed; the same command goes on"
    else:
        state = f"{summary.get('status')}, exit code {summary.get('exit_code')}"
        state += f", after {_number(summary.get('seconds'), 1)} s"
    began = ""
    if record.began is not None:
        began = f" that began {datetime.fromtimestamp(record.began, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = [f"<p>{escape(state)}</p>"]
    if record.run is not None:
        earlier = "; the earlier ones are not shown" if record.run > 1 else ""
        lines.append(f'<p class="note">Invocation {record.run} of this run directory{began}{earlier}.</p>')
    config = (summary or {}).get("config") or {}
    named = [("database", "adapter"), ("text model", "text_model"), ("image model", "image_model"),
             ("workers", "workers"), ("backend", "backend"), ("device", "device")]  # fmt: skip
    shown = [f"{what}: {config[key]}" for what, key in named if config.get(key) is not None]
    lines.append(f'<p class="note">{escape("; ".join(shown))}</p>' if shown else "")
    return "\n".join(lines)


def _light(light: Mapping[str, Any] | None) -> str:
    if not light:
        return ""
    parts = ["<h2>Speed of light</h2>"]
    if light.get("ratio") is not None:
        device = light.get("device")
        by = f"{light.get('cores'):g} cores" if device == "cpu" else f"{device} alone"
        digits = 0 if light["unit"] == UNITS["text"] else 1
        parts.append(
            f'<p><span class="big">{100 * light["ratio"]:.0f} %</span> of what is possible:'
            f" {_number(light['end_to_end'], digits)} of {_number(light['bound'], digits)}"
            f" {escape(light['unit'])} by {escape(by)};"
            f" the model alone: {_number(light['forward_only'], digits)}.</p>"
        )
    parts.append(f'<p class="advice">{escape(str(light.get("advice")))}</p>')
    return "\n".join(parts)


def _charts(record: RunRecord) -> Iterator[str]:
    columns = record.columns
    seconds = columns.get("seconds", [])
    if len(seconds) < 2:
        yield '<p class="note">No time series: the run was too short, or an older engine made it.</p>'
        return

    def rate(name: str) -> list[Point]:
        return rates(seconds, columns[name])

    yield _chart("Throughput: text", {"tokens embedded": rate("tokens")}, "tokens/s")
    if any(columns["images"]):
        yield _chart("Throughput: pictures", {"pictures embedded": rate("images")}, "images/s")
    yield _chart("Throughput: database", {"records acknowledged": rate("records")}, "records/s")
    current_item = {name: rate(f"{name}_s") for name in ("parsers", "model", "database")}
    yield _chart("At work (the parsers' sum)", current_item, "processes")
    if record.buffer:
        fill = {"in flight": [(t, 100 * size / record.buffer) for t, size in _line(record, "in_flight")]}
        yield _chart("Queue fill: bytes in flight ÷ buffer", fill, "%", most=100)
    stages = ("supervisor", "parsers", "inference", "indexer")
    memory = {stage: [(t, size / 2**20) for t, size in _line(record, stage)] for stage in stages}
    yield _chart("Memory (PSS) by stage", memory, "MiB")


def _line(record: RunRecord, name: str) -> Iterable[Point]:
    return zip(record.columns["seconds"], record.columns[name], strict=True)


def rates(seconds: Sequence[float], sums: Sequence[float]) -> list[Point]:
    """What a growing sum gains a second between each two points, told at the later one."""
    pairs = pairwise(zip(seconds, sums, strict=True))
    return [(t2, max(0.0, (s2 - s1) / (t2 - t1))) for (t1, s1), (t2, s2) in pairs if t2 > t1]


def _chart(title: str, lines: Mapping[str, Sequence[Point]], unit: str, most: float | None = None) -> str:
    drawn = line_chart(lines, unit, most)
    return f"<h2>{escape(title)}</h2>\n{drawn}" if drawn else ""


def _stages(stages: Mapping[str, Any] | None) -> str:
    if not stages:
        return ""
    rows = []
    for name, stats in stages.items():
        waits = stats.get("waits") or {}
        _, words = WAITS.get(name, ("", {}))
        told = ", ".join(
            f"{_number(s, 1)} s {words.get(on, f'for {on}')}" for on, s in waits.items() if s >= 0.05
        )
        calls = stats.get("calls") or {}
        inside = ", ".join(f"{_number(c['seconds'], 1)} s in {call}" for call, c in calls.items())
        rows.append([STAGE_NAMES.get(name, name), f"{_number(stats.get('busy_s'), 1)} s",
                     f"{_number(stats.get('cpu_s'), 1)} s", inside, told])  # fmt: skip
    return "<h2>Stages, whole run, all processes of a stage together</h2>\n" + _table(
        ["stage", "busy", "processor", "inside calls", "waited"], rows, words=(3, 4)
    )


def _memory(memory: Mapping[str, Any] | None, peaks: Mapping[str, Any] | None) -> str:
    if not memory:
        return ""
    plan = memory.get("plan") or {}
    parts, peaks = plan.get("parts") or {}, peaks or {}
    names = list(dict.fromkeys([*parts, *(name for name in peaks if name != "total")]))
    rows = [[name, _mebibytes(parts.get(name)), _mebibytes(peaks.get(name))] for name in names]
    rows.append(["together", _mebibytes(sum(parts.values()) or None), _mebibytes(peaks.get("total"))])
    limit = f"at most {_mebibytes(memory.get('limit_bytes'))} ({memory.get('limit_source')})"
    return f"<h2>Memory: {escape(limit)}</h2>\n" + _table(["part", "planned", "highest PSS"], rows)


def _files(summary: Mapping[str, Any]) -> str:
    files, chunks = summary.get("files") or {}, summary.get("chunks") or {}
    rows = [[f"files {name}", _number(count, 0)] for name, count in files.items() if count]
    rows += [[f"chunks {name}", _number(count, 0)] for name, count in chunks.items() if count]
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
