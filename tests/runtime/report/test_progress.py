"""The line that says how far a run has come fits where it is shown, and promises nothing that isn't known."""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import replace

import pytest

from engine.runtime.report import progress as module
from engine.runtime.report.progress import CLEAR, Progress, ProgressLine

NOW = Progress(
    bytes_done=12_400_000,
    bytes_total=20_200_000,
    total_known=True,
    files=2114,
    tokens_per_s=58_390.4,
    eta_s=41.2,
    item="gnuplot.pdf",
    page=212,
)


# What it says


def test_it_says_share_bytes_files_rate_rest_and_item() -> None:
    line = "61 % · 12.4/20.2 MB · 2,114 files · 58k tok/s · ETA 0:41 · gnuplot.pdf p. 212"
    assert NOW.line() == line
    pictures = replace(NOW, tokens_per_s=0, images_per_s=7.25, page=None, failed=3, trouble="no route")
    assert pictures.line() == (
        "61 % · 12.4/20.2 MB · 2,114 files · 7 images/s · ETA 0:41 · 3 failed"
        " · waiting for the database: no route · gnuplot.pdf"
    )


def test_a_total_that_still_grows_is_a_least_and_makes_the_share_a_most() -> None:
    assert (
        replace(NOW, total_known=False)
        .line()
        .startswith("≤ 61 % · 12.4/≥20.2 MB · 2,114 files · 58k tok/s · ETA ≥0:41 · ")
    )


def test_before_anything_is_done_it_says_that_the_run_is_starting() -> None:
    assert Progress(starting=True).line() == "0.0/≥0.0 kB · 0 files · starting"
    seen = Progress(bytes_total=5000, total_known=True, files=1, starting=True)
    assert seen.line() == "0 % · 0.0/5.0 kB · 1 files · starting"


def test_a_run_is_at_a_hundred_per_cent_when_all_of_it_is_done() -> None:
    assert replace(NOW, bytes_done=20_199_999).line().startswith("99 % ")
    assert replace(NOW, bytes_done=20_200_000).line().startswith("100 % ")


@pytest.mark.parametrize(
    ("rate", "told"),
    [(0.42, "0.4"), (7.0, "7"), (950, "950"), (1234, "1.2k"), (58_390, "58k"), (1_260_000, "1.3M")],
)
def test_rates_are_short(rate: float, told: str) -> None:
    assert f" · {told} tok/s · " in replace(NOW, tokens_per_s=rate).line()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (3723, "1:02:03")]
)
def test_the_time_that_is_left_is_put_as_a_clock(seconds: float, told: str) -> None:
    assert f" · ETA {told} · " in replace(NOW, eta_s=seconds).line()


def test_a_name_can_not_act_on_the_terminal() -> None:
    assert replace(NOW, item="red \x1b[31m\u202e\udcff.pdf").line(100).endswith(" · red ?[31m??.pdf p. 212")


# In a terminal's columns


@pytest.mark.parametrize("item", ["gnuplot.pdf", "名前" * 40 + ".pdf", "x" * 300, None])
def test_it_fits_any_terminal(item: str | None) -> None:
    for columns in range(10, 160):
        line = replace(NOW, item=item).line(columns)
        assert module._width(line) <= columns


def test_a_long_name_keeps_its_end_and_a_narrow_terminal_has_none() -> None:
    long = replace(NOW, item="a-rather-long-name-of-a-manual.pdf")
    assert long.line(90).endswith(" · …ng-name-of-a-manual.pdf p. 212")
    assert long.line(60) == "61 % · 12.4/20.2 MB · 2,114 files · 58k tok/s · ETA 0:41"
    assert long.line(20) == "61 % · 12.4/20.2 MB…"


# Where it is shown


def test_a_terminal_has_one_line_that_is_drawn_anew_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "_columns", lambda: 100)
    line = ProgressLine(quiet=False)
    line.show(NOW)
    line.say("a note")
    line.show(troubled := replace(NOW, trouble="connection refused"))
    line.close()
    line.close()
    drawn = f"{CLEAR}{NOW.line()}{CLEAR}a note\n{CLEAR}{troubled.line(99)}{CLEAR}"
    assert terminal.getvalue() == drawn


@pytest.mark.parametrize("kind", ["a file", "a terminal without a size", "a dumb terminal"])
def test_elsewhere_there_is_a_line_now_and_then(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, now = io.StringIO(), [1000.0]
    if kind != "a file":
        monkeypatch.setattr(log, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(log, "fileno", lambda: 2, raising=False)
        monkeypatch.setattr("os.get_terminal_size", lambda _: os.terminal_size((0, 0)))
        monkeypatch.setenv("TERM", "dumb" if "dumb" in kind else "xterm")
    monkeypatch.setattr(sys, "stderr", log)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    line = ProgressLine(quiet=False)
    for _ in range(100):
        line.show(NOW)
        now[0] += 1.0
    line.close()
    assert log.getvalue() == f"{NOW.line()}\n" * 3


def test_a_quiet_run_shows_no_progress_but_says_what_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "_columns", lambda: 100)
    line = ProgressLine(quiet=True)
    line.show(NOW)
    line.say("stopped by a signal")
    line.close()
    assert terminal.getvalue() == "stopped by a signal\n"


def test_a_terminal_with_a_small_alphabet_gets_plain_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, "ascii", "backslashreplace"))
    monkeypatch.setattr(module, "_columns", lambda: 100)
    ProgressLine(quiet=False).show(replace(NOW, total_known=False))
    assert b"<= 61 % | 12.4/>=20.2 MB | 2,114 files | " in written.getvalue()


def test_a_terminal_that_is_closed_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("input/output error")

    monkeypatch.setattr(sys, "stderr", Closed())
    monkeypatch.setattr(module, "_columns", lambda: 100)
    line = ProgressLine(quiet=False)
    line.show(NOW)
    line.say("a note")
    line.close()
    sys.stderr.close()  # what the line has put in the terminal's place
