"""The cases of the speed benchmark, as far as they need nothing but this repository."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command import BenchError
from benchmarks.speed import debian
from benchmarks.speed.bench import Outcome, interleaved
from benchmarks.speed.cases.profile import LIBRARIES, largest
from benchmarks.speed.tokenizer import reads_as
from engine.chunkers.tokens import TokenChunker
from engine.models.resolve import resolve_text
from engine.records import TextSection


def case(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.speed.cases", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_ready_chunks_pass_through_the_whole_run_and_each_process_is_told_of(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    sizes = ("--chunks", "4000", "--files", "2", "--segment", "50", "--runs", "1", "--rounds", "1")
    done = case("channels", *sizes, "--json", str(figures), "--work", str(tmp_path / "work"))
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "work" / "run-0" / "run" / "summary.json").read_text())
    assert summary["totals"] == {"files": 2, "records": 4000}
    told = json.loads(figures.read_text())
    names = {row["process or hand-over"] for row in told["table"]}
    assert {"supervisor", "inference", "indexer", "codec, parser → inference", "ledger"} <= names
    assert told["environment"]["cpus"] >= 1


def test_records_are_all_there_once_after_kills_and_changes(tmp_path: Path) -> None:
    sizes = ("--records", "20000", "--files", "20", "--segment", "100", "--kills", "1", "--changed", "0.1")
    done = case("records", *sizes, "--work", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "1 kills" in done.stdout
    for name in ("undisturbed", "crashes"):
        assert f"{name}, 2,000 records of changed files" in done.stdout
        assert f"{name}, nothing changed" in done.stdout
        assert not (tmp_path / name).exists()


def test_the_index_of_vectors_is_compared_with_exact_search(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = case("nearest", "--sizes", "3000", "6000", "--queries", "5", "--json", str(figures))
    assert done.returncode == 0, done.stderr
    rows = json.loads(figures.read_text())["table"]
    assert [row["records"] for row in rows] == ["3,000", "6,000"]
    assert all(float(row["recall@10"]) > 0.9 and float(row["index, MB"]) > 0 for row in rows)


def test_work_is_interleaved_and_its_warm_up_does_not_count() -> None:
    order: list[str] = []
    timed = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [len(one.cpu) for one in timed.values()] == [2, 2]


def test_a_goal_that_is_missed_is_said_to_be() -> None:
    outcome = Outcome()
    outcome.goal("speed", 1.9, 2.0)
    outcome.goal("speed", 2.0, 2.0)
    assert [line.rpartition(" ")[2] for line in outcome.said] == ["MISSED)", "met)"]


def test_files_of_packages_are_those_with_the_suffix_without_links(tmp_path: Path) -> None:
    for name in ("b/two.pdf", "a/one.pdf", "a/one.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "a" / "link.pdf").symlink_to("one.pdf")
    assert debian.files([tmp_path], ".pdf") == [tmp_path / "a/one.pdf", tmp_path / "b/two.pdf"]


def test_a_package_that_is_not_there_and_cannot_be_fetched_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    assert debian.unpacked(tmp_path, ["there"]) == [tmp_path / "there"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="missing: apt-get and dpkg are needed to fetch it"):
        debian.unpacked(tmp_path, ["missing"])


def test_a_thread_s_samples_share_out_the_seconds_that_it_has_spent() -> None:
    stacks = """\
thread (7): MainThread;main (a.py:1);parse (b.py:9) 60
thread (7): MainThread;main (a.py:1) 20
thread (8): reader;recv (c.py:3) 800
thread (8): reader;parse (b.py:9) 200
thread (9) 5
"""
    spent = {7: 6.0, 8: 1.0, 9: 0.5, 10: 0.5}  # the last one was never seen in Python
    assert largest(stacks, spent) == ["parse (b.py:9) 59 %", "main (a.py:1) 19 %", f"{LIBRARIES} 12 %"]
    assert largest("", {}) == []


def test_a_stand_in_that_reads_as_a_model_is_fed_that_model_s_ids() -> None:
    stand_in, model = resolve_text("stand-in:384@500000"), resolve_text()
    both = reads_as(stand_in, model)
    assert (both.folder, both.stand_in_rate, both.dimensions) == (None, 500_000, 384)
    section = TextSection(0, None, 0, "Unbelievably streaming engines tokenise this. " * 40, "")
    ids = [
        [
            chunk.token_ids.tolist()
            for chunk in TokenChunker(spec).chunks(section)
            if chunk.token_ids is not None
        ]
        for spec in (both, model, stand_in)
    ]
    assert ids[0] == ids[1] != ids[2]
