"""The progress line reaches its reader whole, and only now and then where that is a log."""

from __future__ import annotations

import io
import sys
import time

import pytest

from engine.runtime.ledger.counts import Counts
from engine.runtime.report import progress
from engine.runtime.report.progress import ProgressLine

COUNTS = Counts(discovered=1200, indexed=1000, partial=1, unchanged=100, skipped=60, failed=2, records=4030)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_drawn_anew_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    line = ProgressLine(quiet=False)
    line.show(COUNTS, 3 * 2**20, None)
    line.say("a note")
    line.show(COUNTS, 0, "connection refused")
    line.close()
    told = terminal.getvalue()
    assert (
        "1,163 of 1,200 files found so far, 4,030 records, 3.0 MiB in flight, 3 files with failures" in told
    )
    assert "waiting for the database: connection refused" in told
    assert "a note\n" in told
    assert told.rstrip(" ").endswith("\r")


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = io.StringIO(), [1000.0]
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    line = ProgressLine(quiet=False)
    for _ in range(100):
        line.show(COUNTS, 0, None)
        now[0] += 1.0
    line.close()
    assert log.getvalue().count("\n") == 3
    assert "\r" not in log.getvalue()


def test_a_quiet_run_shows_no_progress_but_says_what_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "LOG_INTERVAL_S", -1.0)
    line = ProgressLine(quiet=True)
    line.show(COUNTS, 0, None)
    assert terminal.getvalue() == ""
    line.say("stopped by a signal")
    line.close()
    assert terminal.getvalue() == "stopped by a signal\n"
