"""The last lines of a run for its user: totals, failures, speed."""

from __future__ import annotations

from pathlib import Path

from engine.runtime.ledger.counts import OTHER_CONTENT, UNKNOWN_TYPE, Counts
from engine.runtime.report.efficiency import LEAST_WINDOW_S, UNITS, Observed
from engine.runtime.report.summary import Files, SpeedOfLight, Summary
from engine.sources.gitignore import GITIGNORE
from engine.sources.local import EXCLUDED_BY_DEFAULT
from engine.sources.outputs import ENGINE_OUTPUT

#: The most types without a parser that are named; the others are counted together.
MOST_TYPES = 8

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

#: What is said where one rule left out all that there was.
HINTS = {
    ENGINE_OUTPUT: "every INPUT lies in a run directory, an index or a cache of the engine",
    GITIGNORE: "git ignores every file; --no-gitignore takes them",
    EXCLUDED_BY_DEFAULT: "nothing but .git, node_modules, __pycache__ or virtual environments was found;"
    " --no-default-excludes takes them",
    "hidden": "every file or folder is hidden; --hidden takes them",
}


def files_line(files: Files) -> str:
    """How many files were found, and what became of them."""
    parts = [f"{n:,} {name}" for name, n in vars(files).items() if n and name != "discovered"]
    return f"files: {files.discovered:,} found: {', '.join(parts) or 'nothing to do'}"


def closing_lines(
    summary: Summary, counts: Counts, failures: int, run_dir: Path, prune: str = "--prune"
) -> list[str]:
    """Totals, files skipped and why, damage repaired, how many failures there are, and how many files are
    gone, with the option that would `prune` them."""
    chunks, salvaged = summary.chunks, summary.salvaged
    lines = [files_line(summary.files)]
    if counts.rules:
        lines.append(f"skipped: {skipped(counts)}; each in {run_dir / 'skipped.jsonl'}")
    if chunks.indexed or chunks.deleted:
        known = f" ({chunks.deduplicated:,} of them by a known vector)" if chunks.deduplicated else ""
        lines.append(
            f"chunks: {chunks.text:,} text and {chunks.image:,} image embedded{known},"
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
    if counts.gone:
        lines.append(gone(counts.gone, prune))
    return lines


def skipped(counts: Counts) -> str:
    """How many files were left out, of which type where no parser reads them, else by which rule."""
    unread = sorted(counts.unread.items(), key=lambda each: (-each[1], each[0]))
    named = unread[:MOST_TYPES]
    parts = [f"{n:,} {word}" for word, n in named if not word.endswith(OTHER_CONTENT)]
    if rest := sum(n for _, n in unread[MOST_TYPES:]):
        parts.append(f"{rest:,} of other types")
    if parts:
        parts[-1] += " (no parser)"
    parts += [f"{n:,} {word}" for word, n in named if word.endswith(OTHER_CONTENT)]
    parts += [f"{n:,} {rule}" for rule, n in sorted(counts.rules.items()) if rule != UNKNOWN_TYPE]
    return ", ".join(parts)


def pruning(fleet: bool) -> str:
    """What deletes the records of files that are gone: of a fleet its merge does it."""
    return "engine.merge --prune" if fleet else "--prune"


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
    if hint := next(
        (hint for rule, hint in HINTS.items() if counts.rules.get(rule) == counts.discovered), ""
    ):
        return f"nothing was indexed: {hint}"
    parts = [f"{n:,} {name}" for name, n in (("skipped", counts.skipped), ("failed", counts.failed)) if n]
    return f"nothing could be indexed: of {counts.discovered:,} found, {' and '.join(parts)}"


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
    if seen.window_s >= LEAST_WINDOW_S:
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
    # What is still waited for at an end may be booked beyond it.
    most = max(seen.window_s, sum(waits.get(on, 0.0) for on in WAITS[stage]))
    shares = {
        why: 100 * waits[on] / most
        for on, why in WAITS[stage].items()
        if waits.get(on, 0.0) >= 0.005 * seen.window_s
    }
    whole = f"{STAGE_NAMES[stage]} {sum(shares.values()):.0f} %"
    if len(shares) < 2:
        return f"{whole} ({next(iter(shares))})" if shares else whole
    return f"{whole} ({', '.join(f'{why} {share:.0f} %' for why, share in shares.items())})"
