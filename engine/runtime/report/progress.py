"""The line on standard error that says where a run stands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from engine.runtime.ledger.counts import Counts

#: Seconds between two progress lines where standard error is a file or a batch system's log.
LOG_INTERVAL_S = 30.0


class ProgressLine:
    """One line on standard error: redrawn on a terminal, else printed every `LOG_INTERVAL_S`, or nothing."""

    def __init__(self, quiet: bool) -> None:
        self._live = not quiet and sys.stderr.isatty()
        self._quiet = quiet
        self._printed = time.monotonic()
        self._bar = tqdm(bar_format="{desc} [{elapsed}]", leave=False) if self._live else None

    def show(self, counts: Counts, in_flight: int, trouble: str | None) -> None:
        """Show these counts; `trouble` is why the database doesn't answer."""
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
            with self._ignore_closed_terminal():
                self._bar.set_description_str(text)
        elif not self._quiet and time.monotonic() - self._printed > LOG_INTERVAL_S:
            self._printed = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line of its own."""
        with self._ignore_closed_terminal():
            if self._bar is not None:
                self._bar.write(text, file=sys.stderr)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._bar is not None:
            with self._ignore_closed_terminal():
                self._bar.close()

    @contextmanager
    def _ignore_closed_terminal(self) -> Iterator[None]:
        """A run goes on where its terminal was closed or nobody reads its pipe any more."""
        try:
            yield
        except OSError:
            self._live, self._bar, self._quiet = False, None, True
            # What is left in the buffer would fail again when the interpreter ends.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - as long as the process
