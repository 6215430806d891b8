"""The last lines of a run for its user: totals, failures, speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.runtime.report.efficiency import UNITS, Observed
from engine.runtime.report.summary import Files, SpeedOfLight, Summary

#: What the stages are called for people, and what each waits for by the names in its `Stats`.
STAGE_NAMES = {"parse": "parsers", "infer": "inference", "index": "indexer", "supervise": "supervisor"}
WAITS = {
    "parse": {
        "files": "no files",
        "credits": "buffer full",
        "inference": "inference busy",
        "image model": "loading the image model",
    },
    "infer": {"parsers": "waiting for parsers"},
    "index": {"inference": "waiting for vectors", "database": "waiting for the database"},
}


def files_line(files: Files) -> str:
    """How many files were found, and what became of them."""
    parts = [f"{n:,} {name}" for name, n in vars(files).items() if n and name != "discovered"]
    return f"files: {files.discovered:,} found: {', '.join(parts) or 'nothing to do'}"


def closing_lines(summary: Summary, rules: Mapping[str, int], failures: int, run_dir: Path) -> list[str]:
    """Totals, files skipped by rule, damage repaired, and how many failures `failures.jsonl` holds."""
    lines, chunks, rates, salvaged = (
        [files_line(summary.files)],
        summary.chunks,
        summary.throughput,
        summary.salvaged,
    )
    if rules:
        skipped = ", ".join(f"{n:,} {rule}" for rule, n in sorted(rules.items()))
        lines.append(f"skipped: {skipped}; each in {run_dir / 'skipped.jsonl'}")
    if chunks.indexed or chunks.deleted:
        lines.append(
            f"chunks: {chunks.text:,} text ({rates.tokens_per_s:,.0f} tokens/s) and"
            f" {chunks.image:,} image ({rates.images_per_s:,.1f} images/s) embedded,"
            f" {chunks.indexed:,} records written, {chunks.deleted:,} deleted"
        )
    lines.append(f"index: {summary.totals.records:,} records of {summary.totals.files:,} files")
    damage = [
        f"{count:,} {what}"
        for count, what in (
            (salvaged.replaced_characters, "characters that could not be decoded"),
            (salvaged.truncated_images, "truncated pictures"),
        )
        if count
    ]
    if damage:
        lines.append(f"damaged: {' and '.join(damage)}; indexed all the same")
    if failures:
        lines.append(f"failures: {failures:,}, each with its reason in {run_dir / 'failures.jsonl'}")
    return lines


def speed_lines(seen: Observed, speed: SpeedOfLight) -> list[str]:
    """How near the run came to what is possible, which stages were idle and why, and what would help; none
    for a run that embedded nothing."""
    if not any(seen.items.values()):
        return []
    lines = []
    if speed.ratio is not None:
        digits = 0 if speed.unit == UNITS["text"] else 1
        lines.append(
            f"speed: {100 * speed.ratio:.0f} % of what is possible ({speed.end_to_end:,.{digits}f} of"
            f" {speed.bound:,.{digits}f} {speed.unit} by {device_of(speed)})"
        )
    if seen.window_s:
        lines.append(f"idle: {', '.join(_idle(seen, stage) for stage in WAITS)}")
    return [*lines, f"advice: {speed.advice}"]


def device_of(speed: SpeedOfLight) -> str:
    """What computed: so many cores, or a device."""
    return f"{speed.cores:g} cores" if speed.device == "cpu" else f"{speed.device} alone"


def _idle(seen: Observed, stage: str) -> str:
    """The share of the window in which a stage's processes waited, by reason."""
    processes = seen.parsers if stage == "parse" else seen.mean_number(stage)
    waits = {on: seconds / processes for on, seconds in seen.stage(stage).waits.items()}
    if stage == "index":
        waits["database"] = seen.busy["database"]
    shares = {
        why: min(100.0, 100 * waits[on] / seen.window_s)
        for on, why in WAITS[stage].items()
        if waits.get(on, 0.0) >= 0.005 * seen.window_s
    }
    whole = f"{STAGE_NAMES[stage]} {min(100.0, sum(shares.values())):.0f} %"
    if len(shares) < 2:
        return f"{whole} ({next(iter(shares))})" if shares else whole
    return f"{whole} ({', '.join(f'{why} {share:.0f} %' for why, share in shares.items())})"
