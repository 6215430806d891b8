"""The last lines of a run: what became of the files, how fast it was, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.runtime.ledger.counts import UNKNOWN_TYPE, Counts
from engine.runtime.report.efficiency import UNITS, Observed
from engine.runtime.report.summary import file_counts

#: Types that are told of what no parser reads; the rest is told as one.
MOST_TYPES = 8


def closing_lines(
    counts: Counts,
    seconds: float,
    totals: Mapping[str, int],
    failures: int,
    run_dir: Path,
    prune: str = "--prune",
) -> list[str]:
    """The last lines of a run: totals, what was left out and why, what failed and where to read of it, and
    what is gone, with the option that would `prune` it."""
    parts = [f"{n:,} {name}" for name, n in file_counts(counts).items() if n and name != "discovered"]
    lines = [f"files: {counts.discovered:,} found: {', '.join(parts) or 'nothing to do'}"]
    if counts.rules:
        lines.append(f"skipped: {skipped(counts)}; each in {run_dir / 'skipped.jsonl'}")
    if counts.records or counts.deleted:
        lines.append(
            f"chunks: {counts.text_chunks:,} text ({counts.tokens / seconds:,.0f} tokens/s) and"
            f" {counts.image_chunks:,} image ({counts.image_chunks / seconds:,.1f} images/s) embedded,"
            f" {counts.records:,} records written, {counts.deleted:,} deleted"
        )
    lines.append(f"index: {totals['records']:,} records of {totals['files']:,} files")
    salvaged = [
        f"{count:,} {what}"
        for count, what in (
            (counts.replaced_characters, "characters that could not be decoded"),
            (counts.truncated_images, "pictures that end early"),
        )
        if count
    ]
    if salvaged:
        lines.append(f"salvaged: {' and '.join(salvaged)}, taken all the same")
    if failures:
        lines.append(f"failures: {failures:,}, each with its reason in {run_dir / 'failures.jsonl'}")
    if counts.gone:
        lines.append(gone(counts.gone, prune))
    return lines


def skipped(counts: Counts) -> str:
    """How many files were left out, of which type where no parser reads them, else by which rule."""
    unread = sorted(counts.unread.items(), key=lambda each: (-each[1], each[0]))
    parts = [f"{n:,} {word}" for word, n in unread[:MOST_TYPES]]
    if rest := sum(n for _, n in unread[MOST_TYPES:]):
        parts.append(f"{rest:,} of other types")
    if parts:
        parts[-1] += " (no parser)"
    parts += [f"{n:,} {rule}" for rule, n in sorted(counts.rules.items()) if rule != UNKNOWN_TYPE]
    return ", ".join(parts)


def gone(files: int, prune: str = "--prune") -> str:
    """That files with records in the index are no longer in the corpus, and what deletes those records."""
    are = "1 file is" if files == 1 else f"{files:,} files are"
    return f"{are} gone from the corpus; {prune} deletes {'its' if files == 1 else 'their'} records"


def nothing_indexed(counts: Counts) -> str:
    """For the last line of a run that found nothing which it could index; else nothing."""
    if counts.indexed + counts.partial + counts.unchanged + counts.pending:
        return ""
    if not counts.discovered:
        return "nothing was indexed: no file was found"
    parts = [f"{n:,} {name}" for name, n in (("skipped", counts.skipped), ("failed", counts.failed)) if n]
    return f"nothing could be indexed: of {counts.discovered:,} found, {' and '.join(parts)}"


def speed_lines(seen: Observed, light: Mapping[str, object]) -> list[str]:
    """How near the run came to the speed of light, who waited for whom, and what would help; none for a run
    that embedded nothing."""
    if not any(seen.items.values()):
        return []
    lines = [_speed_line(light), _waits_line(seen), f"advice: {light['advice']}"]
    return [line for line in lines if line is not None]


#: In what words each stage waits for what, in the order in which they are told.
WAITS = {
    "parse": ("each parser", {
        "files": "for files", "credits": "for room in the buffer", "inference": "for the model to take more",
        "image model": "for the image model",
    }),
    "infer": ("the model", {"parsers": "for the parsers"}),
    "index": ("the indexer", {"inference": "for the model", "database": "for the database"}),
}  # fmt: skip


def _waits_line(seen: Observed) -> str | None:
    """How long each stage waited for which neighbour in the window; None where nothing was embedded."""
    if not seen.window_s:
        return None
    parts = []
    for stage, (who, words) in WAITS.items():
        processes = seen.parsers if stage == "parse" else seen.mean_number(stage)
        waits = {
            words[on]: min(s / processes, seen.window_s)
            for on, s in seen.stage(stage).waits.items()
            if on in words
        }
        if stage == "index":
            waits["for the database"] = seen.busy["database"]
        told = [f"{seconds:.1f} s {word}" for word, seconds in waits.items() if seconds >= 0.05]
        parts.append(f"{who} {' and '.join(told) or 'not at all'}")
    return f"waited in {seen.window_s:.1f} s: {'; '.join(parts)}"


def _speed_line(light: Mapping[str, object]) -> str | None:
    """End to end ÷ bound as a line; None where there is none."""
    ratio, reached, bound = light["ratio"], light["end_to_end"], light["bound"]
    if not isinstance(ratio, float) or not isinstance(reached, float) or not isinstance(bound, float):
        return None
    digits = 0 if light["unit"] == UNITS["text"] else 1
    device = light["device"]
    what = f"{light['cores']:g} cores" if device == "cpu" else f"{device} alone"
    return (
        f"speed: {100 * ratio:.0f} % of what is possible ({reached:,.{digits}f} of"
        f" {bound:,.{digits}f} {light['unit']} by {what})"
    )
