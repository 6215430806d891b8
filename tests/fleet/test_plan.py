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
