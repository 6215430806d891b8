"""A run that loads a new generation: when, what search sees meanwhile, and how it goes on after a kill."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from tests.adapters.contract import adapters_closed
from tests.adapters.test_elasticsearch import client_of, drop
from tests.integration.runs import Corpus, wait_until


@pytest.fixture
def url(elasticsearch_url: str) -> Iterator[str]:
    url = f"{elasticsearch_url}/run-{uuid.uuid4().hex[:12]}"
    yield url
    drop(url)


@pytest.fixture
def client(url: str) -> Iterator[Elasticsearch]:
    with client_of(url) as client:
        yield client


def notes(tmp_path: Path, number: int = 5) -> Corpus:
    corpus = Corpus(tmp_path)
    for i in range(number):
        corpus.write(f"note {i:03}.txt", f"note number {i}")
    return corpus


def generations(client: Elasticsearch, url: str) -> dict[str, int]:
    """The indices' numbers and records."""
    name = url.rpartition("/")[2]
    found = client.indices.get(index=f"{name}-*").body
    client.indices.refresh(index=f"{name}-*")
    return {index[-1]: int(client.count(index=index)["count"]) for index in sorted(found)}


def read_now(client: Elasticsearch, url: str) -> str:
    (index,) = client.indices.get_alias(name=url.rpartition("/")[2]).body
    return str(index)[-1]


def test_another_model_makes_a_new_generation_and_the_old_one_stays_whole(
    tmp_path: Path, url: str, client: Elasticsearch
) -> None:
    corpus = notes(tmp_path)
    assert corpus.run(url=url).code == 0
    other = corpus.run(url=url, text_model="stand-in:24")
    assert other.code == 0, other.err
    assert other.files == {"discovered": 5, "indexed": 5}
    assert other.summary["chunks"]["deleted"] == 0
    assert "new generation" in other.err
    assert generations(client, url) == {"1": 5, "2": 5}
    assert read_now(client, url) == "2"
    again = corpus.run(url=url, text_model="stand-in:24")
    assert (again.code, again.files) == (0, {"discovered": 5, "unchanged": 5})
    assert generations(client, url) == {"1": 5, "2": 5}


def test_other_chunks_make_a_new_generation(tmp_path: Path, url: str, client: Elasticsearch) -> None:
    corpus = notes(tmp_path)
    assert corpus.run(url=url).code == 0
    assert corpus.run("--chunk-size", "16", url=url).code == 0
    assert read_now(client, url) == "2"
    corpus.write("note 001.txt", "changed")
    assert corpus.run("--chunk-size", "16", url=url).code == 0
    assert generations(client, url) == {"1": 5, "2": 5}


def test_full_loads_anew_once_for_each_time_it_is_asked_for(
    tmp_path: Path, url: str, client: Elasticsearch
) -> None:
    corpus = notes(tmp_path)
    for number in ("1", "2", "3"):
        result = corpus.run("--full", url=url)
        assert result.code == 0, result.err
        assert result.files == {"discovered": 5, "indexed": 5}
        assert read_now(client, url) == number
    assert generations(client, url) == {"2": 5, "3": 5}


def test_a_killed_load_goes_on_in_its_own_generation_and_search_never_sees_a_hole(
    tmp_path: Path, url: str, client: Elasticsearch
) -> None:
    corpus = notes(tmp_path, 200)
    assert corpus.run(url=url).code == 0
    with corpus.started("--adapter", url, "--full", text_model="stand-in:16@200"):
        wait_until(lambda: len(generations(client, url)) == 2)
        wait_until(lambda: generations(client, url)["2"] > 0)
    assert read_now(client, url) == "1"
    assert generations(client, url)["1"] == 200
    begun = generations(client, url)["2"]
    assert 0 < begun < 200
    result = corpus.run("--full", url=url)
    assert result.code == 0, result.err
    assert result.files["indexed"] <= 200
    assert generations(client, url) == {"1": 200, "2": 200}
    assert read_now(client, url) == "2"


def test_another_model_does_not_leave_behind_what_other_runs_have_written(
    tmp_path: Path, url: str, client: Elasticsearch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = notes(tmp_path / "one"), notes(tmp_path / "two")
    assert first.run(url=url).code == 0
    assert second.run(url=url).code == 0
    refused = second.run(url=url, text_model="stand-in:24")
    assert refused.code == 2
    assert "16 dimensions" in refused.err and "--full" in refused.err
    assert generations(client, url) == {"1": 10}
    assert second.run("--full", url=url, text_model="stand-in:24").code == 0
    assert generations(client, url) == {"1": 10, "2": 5}


def test_records_that_vanished_are_noticed_before_anything_is_written(
    tmp_path: Path, url: str, client: Elasticsearch
) -> None:
    corpus = notes(tmp_path)
    assert corpus.run(url=url).code == 0
    with adapters_closed(url) as adapter:
        one = str(next(adapter.scan())["id"])
        adapter.delete([one])
    corpus.write("note 003.txt", "changed")
    result = corpus.run(url=url)
    assert result.code == 2
    assert "holds 4 records, fewer than the 5 that were acknowledged" in result.err
    assert generations(client, url) == {"1": 4}
