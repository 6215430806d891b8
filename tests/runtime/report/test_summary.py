"""What a run tells adds up, names where to read more, and reaches its readers whole."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.runtime.ledger.counts import Counts
from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report import summary as report
from engine.runtime.report.summary import (
    ProgressLine,
    environment,
    figures,
    file_counts,
    write_lines,
)

COUNTS = Counts(
    discovered=1200,
    indexed=1000,
    partial=1,
    unchanged=100,
    skipped=60,
    failed=2,
    removed=5,
    text_chunks=4000,
    image_chunks=30,
    deduplicated=12,
    records=4030,
    deleted=7,
    tokens=800_000,
    padding=200_000,
    bytes_read=10**9,
    rules={"hidden": 50, "empty": 10},
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# Lines of JSON


def test_lines_replace_the_file_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    path.write_text("old\n")
    assert write_lines(path, [{"source": "/é"}, {"source": "/b", "page": None}]) == 2
    assert path.read_text(encoding="utf-8") == '{"source": "/é"}\n{"source": "/b", "page": null}\n'
    assert write_lines(path, []) == 0
    assert path.read_text() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_lines_that_break_off_leave_the_old_file(tmp_path: Path) -> None:
    def lines() -> Iterator[Mapping[str, object]]:
        yield {"source": "/a"}
        raise OSError("disk full")

    path = tmp_path / "failures.jsonl"
    path.write_text("old\n")
    with pytest.raises(OSError, match="disk full"):
        write_lines(path, lines())
    assert path.read_text() == "old\n"


# Figures


def test_the_counts_of_files_are_those_of_the_summary_and_add_up() -> None:
    counts = file_counts(COUNTS)
    assert counts == {
        "discovered": 1200,
        "indexed": 1000,
        "partial": 1,
        "unchanged": 100,
        "skipped": 60,
        "failed": 2,
        "removed": 5,
        "pending": 37,
    }
    states = ("indexed", "partial", "unchanged", "skipped", "failed", "pending")
    assert sum(counts[state] for state in states) == counts["discovered"]


def test_rates_are_those_of_the_whole_run() -> None:
    parse = Stats(3.0, 2.0, 1.0, 2.5, {"files": 2.0, "credits": 1.0}, {"parse": Calls(2.75, 2.25)})
    told = figures(COUNTS, {"parse": parse}, 8.0)
    assert told["throughput"] == {
        "chunks_per_s": 503.75,
        "tokens_per_s": 100_000.0,
        "images_per_s": 3.75,
    }
    assert told["chunks"] == {
        "text": 4000,
        "image": 30,
        "deduplicated": 12,
        "indexed": 4030,
        "deleted": 7,
    }
    assert told["stages"] == {"parse": {
        "busy_s": 3.0, "wait_in_s": 2.0, "wait_out_s": 1.0, "cpu_s": 2.5,
        "waits": {"files": 2.0, "credits": 1.0},
        "calls": {"parse": {"seconds": 2.75, "cpu_s": 2.25}},
    }}  # fmt: skip
    assert (told["tokens"], told["bytes_read"], told["seconds"]) == (800_000, 10**9, 8.0)
    assert told["padding"] == {"tokens": 200_000, "real_share": 0.8}
    json.dumps(told)


def test_what_was_salvaged_is_counted() -> None:
    counts = Counts(discovered=3, indexed=3, replaced_characters=1200, truncated_images=1)
    assert figures(counts, {}, 1.0)["salvaged"] == {"replaced_characters": 1200, "truncated_images": 1}


def test_the_environment_names_versions_and_is_json() -> None:
    told = environment()
    assert told["python"] == sys.version.split()[0]
    assert isinstance(told["packages"], dict)
    assert "torch" in told["packages"]
    json.dumps(told)


# Progress


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
    monkeypatch.setattr(report, "LOG_INTERVAL_S", -1.0)
    line = ProgressLine(quiet=True)
    line.show(COUNTS, 0, None)
    assert terminal.getvalue() == ""
    line.say("stopped by a signal")
    line.close()
    assert terminal.getvalue() == "stopped by a signal\n"
