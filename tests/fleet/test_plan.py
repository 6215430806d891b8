"""What a plan foretells, against the run itself."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from engine import plan
from engine.fleet.census import Census, Class
from engine.fleet.estimate import Estimate, TypeEstimate, lines
from engine.runtime.report.summary import Memory, PlannedMemory
from tests.integration.runs import HANG_S, Corpus
from tests.servers import free_port

MODELS = ("--text-model", "stand-in:16", "--image-model", "stand-in:8")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Forty texts of uneven lengths, one file hidden and one of an unknown type."""
    made = Corpus(tmp_path)
    for number in range(40):
        made.write(f"{number % 4}/{number}.txt", f"Text {number} of this corpus. " * (3 + 40 * (number % 7)))
    made.write(".hidden.txt", "hidden")
    (made.files / "noise.bin").write_bytes(bytes(range(256)) * 8)
    return made


def test_a_plan_foretells_tokens_records_and_time(corpus: Corpus) -> None:
    command = [sys.executable, "-m", "engine.plan", str(corpus.files), *MODELS, "--adapter", corpus.url]
    done = subprocess.run(
        [*command, "--calibrate-seconds", "20", "--json"],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert corpus.run(*MODELS).code == 0
    counts = json.loads((corpus.run_dir / "summary.json").read_text())
    # The sample is the whole corpus.
    assert told["tokens"] == pytest.approx(counts["tokens"], rel=0.01)
    assert told["records"] == counts["totals"]["records"]
    assert told["work_s"] > 0 and told["memory"]["plan"]["workers"] >= 1
    assert told["files"] == 41


def test_a_corpus_is_only_listed_where_no_time_is_given(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main([str(corpus.files), "--calibrate-seconds", "0"]) == 0
    assert capsys.readouterr().out.startswith("corpus     41 files, ")


GUESS = Estimate(
    types=[TypeEstimate("text/plain", 41, 4_000_000, 900_000.0, 4000.0, 0.0)],
    tokens_per_s=10_000.0,
    pictures_per_s=0.0,
    edge_s=5.0,
    bytes_per_record=2500.0,
    memory=Memory(8 * 10**9, "--max-ram", PlannedMemory(2, 10**9, 2**28, {"parsers": 2 * 10**9})),
    peak_bytes=400_000_000,
    measured_s=20.0,
    measured_files=10,
    measured_bytes=1_000_000,
    device="cpu",
)


def test_the_answers_come_first_then_what_was_measured_and_what_is_a_guess() -> None:
    census = Census(classes={("text/plain", 10): Class(41, 4_000_000)})
    answers = [
        "memory     2.0 GB planned for a task, 2 parsers with 1.0 GB each, of at most 8.0 GB (--max-ram);"
        " over the sample 400.0 MB were taken",
        "index      about 10.0 MB in this database: 4,000 records of 2.5 kB",
        "measured   files and bytes; over 10 of them, 25 % of the bytes, in 20 s 10,000 tokens/s (cpu), and"
        " memory",
        "guessed    tokens, records, time, index: as if the rest were like the sample of its type and size",
        "corpus     41 files, 4.0 MB; 0 paths left out, 0 unreadable",
    ]
    told = lines(census, GUESS, 1)
    assert told[:6] == ["time       about 2 min on this machine, 5.0 s of it to start and end", *answers]
    assert len(told) == 8
    told = lines(census, GUESS, 4)
    assert told[0] == (
        "time       about 27.5 s for each of 4 tasks, 5.0 s of it to start and end;"
        " about 2 min on this machine alone"
    )
    assert lines(census, None, 1) == answers[-1:]


@pytest.mark.parametrize("option", [("--shard", "0/2"), ("--prune",), ("--limit", "3"), ("--dry-run",)])
def test_options_of_one_task_or_one_run_are_refused(
    option: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.main([str(tmp_path), *option]) == 2
    assert f"{option[0]}: it is for engine.run" in capsys.readouterr().err


def test_nothing_of_the_sample_is_left_beside_the_index(
    corpus: Corpus, elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"plan-{uuid.uuid4().hex[:12]}"
    given = [str(corpus.files), *MODELS, "--quiet", "--calibrate-seconds", "20"]
    for url in (corpus.url, f"{elasticsearch_url}/{name}?index=hnsw"):
        assert plan.main([*given, "--adapter", url]) == 0
        assert "in this database" in capsys.readouterr().out
    assert not list(corpus.root.glob("db*"))
    with Elasticsearch(elasticsearch_url.replace("elasticsearch://", "http://")) as client:
        assert not client.indices.get(index=f"{name}*", allow_no_indices=True).body


def test_a_database_that_is_away_is_told_in_one_line_before_any_work(
    corpus: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"elasticsearch://127.0.0.1:{free_port()}/away"
    assert plan.main([str(corpus.files), *MODELS, "--quiet", "--adapter", url]) == 2
    told = capsys.readouterr().err
    assert "a plan writes a sample beside the index of --adapter" in told
    assert told.count("\n") == 1
