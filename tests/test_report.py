"""The page of a run is whole, needs nothing else, and is refused in one line where there is no run."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.report.__main__ import main
from engine.report.charts import PLACES, line_chart, nice_ticks, short
from engine.report.page import page, rates
from engine.runtime.report.record import RunRecord, read_run
from engine.runtime.report.series import SERIES_FILE, Sample
from engine.runtime.report.summary import Summary
from tests.integration.runs import Corpus

#: Elements that HTML doesn't end.
VOID = {"meta", "line", "polyline"}


class Whole(HTMLParser):
    """Fails for an element that isn't closed, and for whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}
        assert tag not in ("script", "link", "img", "iframe")
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Whole:
    parser = Whole()
    parser.feed(text)
    assert parser.open == []
    assert "http" not in text
    assert "url(" not in text
    return parser


def record(points: int = 10, **fields: Any) -> RunRecord:
    values = [(10.0 * n,) * (len(Sample._fields) - 1) for n in range(points)]
    samples = [Sample(float(n), *each) for n, each in enumerate(values)]
    given = {"run": 1, "running": False, "summary": None, "samples": samples, "buffer": 100, "began": 0.0}
    return RunRecord("/tmp/<run>", **(given | fields))


# Charts


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (0.0, [0, 1]),
        (4, [0, 1, 2, 3, 4]),
        (100, [0, 50, 100]),
        (7, [0, 2, 4, 6, 8]),
        (0.3, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_an_axis_has_round_steps_up_to_its_highest(most: float, ticks: list[float]) -> None:
    assert nice_ticks(most) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (950, "950"), (1500, "1.5k"), (2e6, "2M"), (0.25, "0.25")]
)
def test_numbers_on_an_axis_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_chart_draws_each_line_from_its_first_to_its_last_point() -> None:
    drawn = line_chart({"a": [(0, 0), (10, 100)], "b": [(0, 50), (5, 0), (10, 50)]}, "MiB", most=100)
    checked(drawn)
    assert 'points="70.0,218.0 888.0,28.0"' in drawn
    assert 'points="70.0,123.0 479.0,218.0 888.0,123.0"' in drawn
    assert drawn.count('"line0"') == drawn.count('"line1"') == 2  # the line and its place in the legend
    assert line_chart({"a": [(0, 1)]}, "MiB") == ""


def test_a_chart_has_the_values_at_a_bounded_number_of_places() -> None:
    drawn = line_chart({"a": [(n, n) for n in range(5000)], "b": [(0, 7), (2500, 1500)]}, "MiB")
    checked(drawn)
    assert drawn.count('class="at"') == PLACES
    assert ">20.8 s: a 21, b 7 MiB<" in drawn
    assert ">4.98k s: a 4.98k, b 1.5k MiB<" in drawn


def test_a_rate_is_what_is_gained_between_two_points() -> None:
    assert rates([(0, 0), (1, 10), (3, 40), (3, 40)]) == [(1, 10.0), (3, 15.0)]
    # The last point is taken when the run ends, perhaps just after another one.
    assert rates([(0, 0), (1, 10), (2, 20), (2.1, 32)]) == [(1, 10.0), (2.1, 20.0)]
    assert rates([(0, 0), (0.25, 10)]) == [(0.25, 40.0)]


# The page


def test_a_page_needs_nothing_else_and_shows_names_as_they_are() -> None:
    text = page(record(running=True))
    seen = checked(text).seen
    assert "Run in /tmp/&lt;run&gt;" in text
    assert seen.count("svg") == 6
    assert "still running" in text


def test_a_later_invocation_says_that_the_earlier_ones_are_not_shown() -> None:
    assert "earlier ones are not shown" in page(record(run=3))
    assert "earlier ones are not shown" not in page(record(run=1))
    assert "<b>killed</b><p>It wrote no summary; run the same command again to continue.</p>" in page(
        record(run=3)
    )


def test_a_run_that_was_too_short_for_a_series_says_so() -> None:
    text = page(record(points=1))
    checked(text)
    assert "No time series" in text
    checked(page(record(samples=(), run=None, began=None)))


# The command, over a real run


def test_a_run_s_page_has_its_speed_stages_and_memory(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(3):
        corpus.write(f"{number}.txt", " ".join(f"Word {word} of file {number}." for word in range(2000)))
    done = corpus.run(text_model="stand-in:16@30000")
    assert done.code == 0, done.err
    assert "advice: " in done.err
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    light = summary["speed_of_light"]
    assert light["forward_only"] == light["bound"] == 30_000
    assert 0 < light["ratio"] <= 1.05
    assert light["end_to_end"] == pytest.approx(light["ratio"] * 30_000, rel=0.01)
    stages = summary["stages"]
    assert set(stages) == {"parse", "infer", "index", "supervise"}
    assert stages["infer"]["calls"]["text"]["seconds"] == pytest.approx(summary["tokens"] / 30_000, rel=0.2)
    assert stages["parse"]["calls"]["parse"]["cpu_s"] > 0
    assert stages["index"]["calls"]["database"]["seconds"] > 0
    for stats in stages.values():
        waited = stats["wait_in_s"] + stats["wait_out_s"]
        assert sum(stats["waits"].values()) == pytest.approx(waited, abs=0.01)
    output = tmp_path / "page.html"
    assert main(["--run-dir", str(corpus.run_dir), "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    checked(text)
    assert light["advice"].replace("'", "&#x27;") in text
    assert "Memory (PSS) by stage" in text
    # Again: there is nothing to do, and the page is of that invocation.
    again = corpus.run(text_model="stand-in:16@30000")
    assert again.code == 0
    assert "advice" not in again.err
    light = json.loads((corpus.run_dir / "summary.json").read_text())["speed_of_light"]
    assert (light["ratio"], light["bottleneck"]) == (None, None)
    assert light["advice"] == "nothing was embedded, so there is no speed to measure"
    assert main(["--run-dir", str(corpus.run_dir)]) == 0
    assert "Invocation 2" in (corpus.run_dir / "report.html").read_text(encoding="utf-8")


def test_what_is_not_embedded_again_is_no_speed(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    text = " ".join(f"Word {word} of a file." for word in range(2000))
    for number in range(4):
        corpus.write(f"{number}.txt", text)
    done = corpus.run(text_model="stand-in:16@30000")
    assert done.summary["chunks"]["deduplicated"] == 3 * done.summary["chunks"]["text"] // 4
    assert 0 < done.summary["speed_of_light"]["ratio"] <= 1.05


def test_calibrating_finds_the_model_s_own_speed_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", str(tmp_path / "cache"))
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", "Some words of a file. " * 20_000)
    done = corpus.run("--calibrate")
    assert done.code == 0, done.err
    light = json.loads((corpus.run_dir / "summary.json").read_text())["speed_of_light"]
    (kept,) = (tmp_path / "cache/throughput").iterdir()
    assert light["calibrated"] == pytest.approx(json.loads(kept.read_text())["per_second"], abs=0.001)
    assert light["device"] == "cpu"


# What is no run


def test_without_a_name_the_only_run_here_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert capsys.readouterr().err == "engine.report: no run directory here; name one by --run-dir\n"
    for name in ("runs/a", "runs/b"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "ledger.sqlite").touch()
        (tmp_path / name / "summary.json").write_text('{"run": 1, "status": "complete"}')
        code = main([])
    assert code == 2
    assert (tmp_path / "runs/a/report.html").exists()
    told = "2 run directories here, which engine.status lists; name one by --run-dir"
    assert capsys.readouterr().err == f"engine.report: {told}\n"


def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(folder: Path, *options: str) -> str:
        assert main(["--run-dir", str(folder), *options]) == 2
        told = capsys.readouterr().err
        assert told.startswith("engine.report: ")
        assert told.count("\n") == 1
        return told

    assert "no such directory" in refused(tmp_path / "none")
    assert "no ledger.sqlite there" in refused(tmp_path)
    (tmp_path / "ledger.sqlite").touch()
    assert "neither series.json nor a readable summary.json" in refused(tmp_path)
    for damaged in (
        "{",
        "[]",
        "{}",
        '{"run": 1, "began": 0, "buffer": 1, "columns": ["a"], "points": [[1]]}',
    ):
        (tmp_path / SERIES_FILE).write_text(damaged)
        assert str(tmp_path / SERIES_FILE) in refused(tmp_path)
    (tmp_path / SERIES_FILE).unlink()
    (tmp_path / "summary.json").write_text("{}")
    assert "--output" in refused(tmp_path, "--output", str(tmp_path / "no/page.html"))


def test_a_directory_of_shards_names_one_of_them(tmp_path: Path) -> None:
    shard = tmp_path / "shards/0-of-2"
    shard.mkdir(parents=True)
    (shard / "ledger.sqlite").touch()
    with pytest.raises(UsageError, match=r"name one of them, such as .*0-of-2"):
        read_run(tmp_path)


def test_a_summary_of_an_earlier_invocation_is_not_this_one_s(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    names = Sample._fields
    told = {"run": 2, "began": 0.0, "buffer": None, "columns": names, "points": [[1.0] * len(names)]}
    (tmp_path / SERIES_FILE).write_text(json.dumps(told))
    (tmp_path / "summary.json").write_text(json.dumps({"run": 1, "status": "complete"}))
    assert read_run(tmp_path).summary is None
    (tmp_path / "summary.json").write_text(json.dumps({"run": 2, "status": "complete"}))
    assert read_run(tmp_path).summary == Summary(run=2, status="complete")


def test_the_command_says_where_the_page_is(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    (tmp_path / "summary.json").write_text('{"run": 1, "status": "complete"}')
    command = [sys.executable, "-m", "engine.report", "--run-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/report.html\n")
    checked((tmp_path / "report.html").read_text())
