"""The whole way into a real Elasticsearch: first run, rerun, change, kill, search."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from tests.integration.runs import Corpus, same_vectors
from tests.integration.test_run import big_corpus, wait_for_records


@pytest.fixture
def url(elasticsearch_url: str) -> Iterator[str]:
    """An index name of the test's own on the real server; what it leaves is deleted."""
    index = f"run-{uuid.uuid4().hex[:12]}"
    yield f"{elasticsearch_url}/{index}"
    with Elasticsearch(elasticsearch_url.replace("elasticsearch://", "http://")) as client:
        client.indices.delete(index=f"{index}-000001", ignore_unavailable=True)


def test_a_folder_is_searchable_and_a_rerun_changes_nothing(tmp_path: Path, url: str) -> None:
    corpus = Corpus(tmp_path)
    for number in range(5):
        corpus.write(f"note {number}.txt", f"note number {number}")
    first = corpus.run(url=url)
    assert first.code == 0, first.err
    records = corpus.records(url)
    assert len(records) == 5
    again = corpus.run(url=url)
    assert again.files == {"discovered": 5, "unchanged": 5}
    corpus.write("note 3.txt", "another text")
    assert corpus.run(url=url).files == {"discovered": 5, "indexed": 1, "unchanged": 4}
    changed = corpus.records(url)
    assert {str(r["text"]) for r in changed.values()} == {
        "another text",
        *(f"note number {i}" for i in (0, 1, 2, 4)),
    }
    command = [sys.executable, "-m", "engine.search", "another text", "--adapter", url, "--json", "-k", "1"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    (hit,) = found["text"]
    assert hit["source"] == str(corpus.files / "note 3.txt")
    assert hit["score"] == pytest.approx(1.0, abs=1e-4)


def test_a_killed_load_resumes_to_the_records_of_an_undisturbed_one(tmp_path: Path, url: str) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--adapter", url, text_model="stand-in:16@40000"):
        wait_for_records(corpus, 600)
    result = corpus.run(url=url)
    assert result.code == 0, result.err
    assert result.summary["totals"]["records"] == len(corpus.records(url))
    plain = Corpus.__new__(Corpus)
    plain.root, plain.files = tmp_path / "plain", corpus.files
    assert plain.run().code == 0
    assert same_vectors(corpus.records(url), plain.records())


def test_an_index_deleted_between_runs_is_noticed_and_not_made_again(tmp_path: Path, url: str) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("note.txt", "a note")
    assert corpus.run(url=url).code == 0
    server, _, index = url.rpartition("/")
    with Elasticsearch(server.replace("elasticsearch://", "http://")) as client:
        client.indices.delete(index=f"{index}-000001")
        result = corpus.run(url=url)
        assert result.code == 2
        assert "is gone" in result.err
        assert not client.indices.exists(index=index)
