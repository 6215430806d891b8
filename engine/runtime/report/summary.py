"""What a run tells: the progress line, `status.json`, and at its end `summary.json` and `failures.jsonl`."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

import adapters
from engine import __version__
from engine.runtime.ledger.counts import Counts
from engine.runtime.process.stats import Stats

#: Seconds between two progress lines where standard error is a file or a batch system's log.
LOG_INTERVAL_S = 30.0

#: Packages whose versions explain a run's speed and vectors.
PACKAGES = ("torch", "sentence-transformers", "open-clip-torch", "tokenizers")


def write_lines(path: Path, lines: Iterable[Mapping[str, object]]) -> int:
    """Replace a file by one JSON object a line, streamed; returns their number."""
    temporary = path.with_name(path.name + ".new")
    count = 0
    with open(temporary, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return count


def file_counts(counts: Counts) -> dict[str, int]:
    """The `files` object of the summary."""
    names = ("discovered", "indexed", "partial", "unchanged", "skipped", "failed", "removed", "pending")
    return {name: getattr(counts, name) for name in names}


def environment() -> dict[str, object]:
    """What the run ran on, as far as its figures depend on it."""
    packages = {}
    for name in (*PACKAGES, *adapters.packages()):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "engine": __version__,
        "python": platform.python_version(),
        # platform.platform() would start the program `uname`, to ask for a processor that is not told here.
        "platform": f"{platform.system()}-{platform.release()}-{platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)),
        "packages": packages,
    }


class ProgressLine:
    """One line on standard error: redrawn on a terminal, printed now and then elsewhere, or nothing."""

    def __init__(self, quiet: bool) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._quiet = quiet
        self._printed = time.monotonic()
        self._bar = tqdm(bar_format="{desc} [{elapsed}]", leave=False) if self._live else None

    def show(self, counts: Counts, in_flight: int, trouble: str | None) -> None:
        """Tell where the run stands."""
        done = counts.discovered - counts.pending
        text = (
            f"{done:,} of {counts.discovered:,} files found so far, {counts.records:,} records,"
            f" {in_flight / 2**20:.1f} MiB in flight"
        )
        if counts.failed + counts.partial:
            text += f", {counts.failed + counts.partial:,} files with failures"
        if trouble:
            text += f"; waiting for the database: {trouble}"
        if self._bar is not None:
            with self._reader_may_be_gone():
                self._bar.set_description_str(text)
        elif not self._quiet and time.monotonic() - self._printed > LOG_INTERVAL_S:
            self._printed = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        with self._reader_may_be_gone():
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            with self._reader_may_be_gone():
                self._bar.close()

    @contextmanager
    def _reader_may_be_gone(self) -> Iterator[None]:
        """A terminal that was closed, or a pipe that nobody reads, is no reason to end a run."""
        try:
            yield
        except OSError:
            self._live, self._bar, self._quiet = False, None, True
            # What is left in the buffer would fail once more at the interpreter's end.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def figures(counts: Counts, stages: Mapping[str, Stats], seconds: float) -> dict[str, object]:
    """The counts and rates of a summary, or of a status while the run lives."""
    computed = counts.tokens - counts.spared_tokens
    return {
        "files": file_counts(counts),
        "chunks": {
            "text": counts.text_chunks,
            "image": counts.image_chunks,
            "deduplicated": counts.deduplicated,
            "indexed": counts.records,
            "deleted": counts.deleted,
        },
        "tokens": counts.tokens,
        "padding": {
            "tokens": counts.padding,
            "real_share": round(computed / max(1, computed + counts.padding), 4),
        },
        "bytes_read": counts.bytes_read,
        "salvaged": {
            "replaced_characters": counts.replaced_characters,
            "truncated_images": counts.truncated_images,
        },
        "seconds": round(seconds, 3),
        "throughput": {
            "chunks_per_s": round((counts.text_chunks + counts.image_chunks) / seconds, 3),
            "tokens_per_s": round(counts.tokens / seconds, 3),
            "images_per_s": round(counts.image_chunks / seconds, 3),
        },
        "stages": {name: asdict(stats) for name, stats in stages.items()},
    }
