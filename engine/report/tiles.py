"""The tiles at the top of a run's page: how it ended, and what became of its files."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from engine.errors import EXIT_DONE, EXIT_FAILURES, EXIT_STOPPED
from engine.runtime.report.record import RunRecord

#: Lines that a tile has at most; the rest is summed up.
MOST_LINES = 6

#: The look of an outcome, by the exit code.
LOOKS = {EXIT_DONE: "good", EXIT_FAILURES: "fair", EXIT_STOPPED: "fair"}


def tiles(record: RunRecord) -> str:
    """Outcome, files by state, records, failures by reason, skipped by rule, as far as they are known."""
    summary, figures = record.summary, record.summary or record.status
    made = [_outcome(record)]
    if figures is not None:
        files = {name: count for name, count in vars(figures.files).items() if name != "discovered"}
        made.append(_tile("files found", figures.files.discovered, files))
        chunks = figures.chunks
        parts = {"texts embedded": chunks.text, "pictures embedded": chunks.image,
                 "records written": chunks.indexed, "records deleted": chunks.deleted}  # fmt: skip
        if summary is not None:
            made.append(_tile("records in the index", summary.totals.records, parts))
        else:
            made.append(_tile("records written", chunks.indexed, parts))
    made.append(_tile("failures", sum(record.failures.values()), record.failures))
    made.append(_tile("skipped", sum(record.skipped.values()), record.skipped))
    return f'<section class="tiles">{"".join(made)}</section>'


def _outcome(record: RunRecord) -> str:
    summary = record.summary
    if record.running:
        state, look, note = "still running", "fair", ""
    elif summary is None:
        state, look, note = "killed", "bad", "It wrote no summary; run the same command again to continue."
    else:
        state, look = summary.status.replace("_", " "), LOOKS.get(summary.exit_code or 0, "bad")
        note = f"Exit code {summary.exit_code}, after {_duration(summary.seconds)}."
    return f'<div class="tile {look}"><b>{escape(state)}</b><p>{escape(note)}</p></div>'


def _tile(what: str, number: int, parts: Mapping[str, int]) -> str:
    """A number with what it is, and of what it is made; the largest parts first."""
    known = sorted(((n, name) for name, n in parts.items() if n), reverse=True)
    shown, rest = known[:MOST_LINES], sum(n for n, _ in known[MOST_LINES:])
    lines = [*((f"{n:,}", name) for n, name in shown), *([(f"{rest:,}", "others")] if rest else [])]
    listed = "".join(f"<dt>{n}</dt><dd>{escape(name)}</dd>" for n, name in lines)
    below = f"<dl>{listed}</dl>" if listed else ""
    return f'<div class="tile"><b>{number:,}</b> {escape(what)}{below}</div>'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
