"""Several tasks at once into one index, and `engine.merge` after them."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from elasticsearch import Elasticsearch

import adapters
from tests.integration.runs import HANG_S, Corpus, same_vectors
from tests.integration.test_run import PROSE
from tests.servers import free_port

#: Tasks of each fleet here.
TASKS = 3


@dataclass(frozen=True)
class Told:
    """What `engine.merge` printed and left."""

    code: int
    out: str
    err: str
    summary: dict[str, Any]


@dataclass
class Fleet:
    """Tasks over one corpus, a shared run directory, one index."""

    corpus: Corpus
    url: str

    def command(self, number: int, *options: str) -> list[str]:
        return self.corpus.command("--fleet", "--shard", f"{number}/{TASKS}", *options, url=self.url)

    def run(self, *options: str, tasks: range = range(TASKS)) -> None:
        """All tasks at the same time, to their ends."""
        running = [
            psutil.Popen(self.command(number, *options), stderr=subprocess.PIPE, text=True)
            for number in tasks
        ]
        for process in running:
            _, err = process.communicate(timeout=HANG_S)
            assert process.returncode == 0, err

    def merge(self, *options: str) -> Told:
        start = [sys.executable, "-m", "engine.merge", "--run-dir", str(self.corpus.run_dir)]
        done = subprocess.run(
            [*start, "--adapter", self.url, *options],
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        path = self.corpus.run_dir / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else {}
        return Told(done.returncode, done.stdout, done.stderr, summary)


def alone(corpus: Corpus, name: str) -> dict[str, dict[str, object]]:
    """The records of one undisturbed run over the same files."""
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / name, corpus.files
    assert other.run().code == 0
    return other.records()


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Twelve texts of several chunks each."""
    corpus = Corpus(tmp_path)
    for number in range(12):
        corpus.write(f"{number}.txt", f"Note {number}. " + PROSE * (5 + number))
    return corpus


@pytest.fixture(params=["lancedb", "elasticsearch"])
def fleet(request: pytest.FixtureRequest, corpus: Corpus) -> Iterator[Fleet]:
    if request.param == "lancedb":
        yield Fleet(corpus, corpus.url)
        return
    server = request.getfixturevalue("elasticsearch_url")
    index = f"fleet-{uuid.uuid4().hex[:12]}"
    yield Fleet(corpus, f"{server}/{index}")
    with Elasticsearch(server.replace("elasticsearch://", "http://")) as client:
        client.indices.delete(index=f"{index}-000001", ignore_unavailable=True)


def test_tasks_side_by_side_make_the_index_of_one_run(fleet: Fleet) -> None:
    corpus = fleet.corpus
    broken = corpus.write("broken.pdf", "%PDF-1.4 not really")
    fleet_of_one = [fleet.command(number) for number in range(TASKS)]
    codes = [subprocess.run(one, capture_output=True, check=False).returncode for one in fleet_of_one]
    assert sorted(codes) == [0, 0, 3]
    first = fleet.merge()
    assert first.code == 3, first.out + first.err
    assert {name: n for name, n in first.summary["files"].items() if n} == {
        "discovered": 13, "indexed": 12, "failed": 1,
    }  # fmt: skip
    (failure,) = [json.loads(line) for line in (corpus.run_dir / "failures.jsonl").read_text().splitlines()]
    assert failure["source"] == str(broken)
    records = corpus.records(fleet.url)
    assert first.summary["totals"] == {"files": 12, "records": len(records)}
    assert first.summary["verified"]["agrees"] is True
    # Files change, come and go; the same tasks run again, at the same time.
    broken.unlink()
    corpus.write("3.txt", "changed. " + PROSE)
    corpus.write("new.txt", "new. " + PROSE)
    (corpus.files / "5.txt").unlink()
    fleet.run()
    assert "1 file is gone from the corpus; --prune deletes its records" in fleet.merge().out
    second = fleet.merge("--prune")
    assert second.code == 0, second.out + second.err
    assert second.summary["files"]["removed"] == 2
    assert second.out.splitlines()[-1].startswith("complete after ")
    assert same_vectors(corpus.records(fleet.url), alone(corpus, "once"))
    # Nothing changed: nothing is done, and all still agrees.
    fleet.run()
    assert fleet.merge("--prune").code == 0


def test_a_fleet_with_a_task_that_is_not_done_is_not_published(corpus: Corpus) -> None:
    fleet = Fleet(corpus, corpus.url)
    assert "name the directory that the tasks" in fleet.merge().err
    fleet.run(tasks=range(2))
    told = fleet.merge()
    assert (told.code, told.summary["status"]) == (75, "stopped")
    assert f"not done: shards/2-of-{TASKS}: never began" in told.out
    assert corpus.records() == {}
    fleet.run(tasks=range(2, TASKS))
    assert fleet.merge().code == 0
    assert same_vectors(corpus.records(), alone(corpus, "once"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--fleet"], "--run-dir"),
        (["--fleet", "--run-dir", "d", "--full"], "--full"),
        (["--fleet", "--run-dir", "d", "--prune"], "engine.merge --prune"),
    ],
)
def test_what_one_task_alone_cannot_do_is_refused(corpus: Corpus, options: list[str], told: str) -> None:
    start = [sys.executable, "-m", "engine.run", str(corpus.files), "--adapter", corpus.url, *options]
    done = subprocess.run(start, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr


def test_shards_that_published_for_themselves_are_not_merged(corpus: Corpus) -> None:
    for number in range(2):
        assert corpus.run("--shard", f"{number}/2").code == 0
    told = Fleet(corpus, corpus.url).merge()
    assert told.code == 2
    assert "was run without --fleet" in told.err


def test_another_number_of_shards_or_other_inputs_are_refused(corpus: Corpus) -> None:
    assert corpus.run("--shard", "0/3", "--limit", "1").code == 0
    other = corpus.run("--shard", "0/4")
    assert other.code == 2 and "3 shards" in other.err and "not with 4" in other.err
    assert corpus.run().code == 2
    (corpus.root / "more").mkdir()
    more = corpus.run(str(corpus.root / "more"), "--shard", "1/3")
    assert more.code == 2 and str(corpus.root / "more") in more.err and "Traceback" not in more.err


def test_a_merged_fleet_is_repaired(corpus: Corpus) -> None:
    fleet = Fleet(corpus, corpus.url)
    fleet.run()
    verify = [sys.executable, "-m", "engine.verify", "--run-dir", str(corpus.run_dir)]
    repair = [*verify, "--adapter", fleet.url, "--repair"]
    early = subprocess.run(repair, capture_output=True, text=True, check=False)
    assert (early.returncode, "run engine.merge first" in early.stderr) == (2, True)
    assert fleet.merge().code == 0
    records = corpus.records()
    with closing(adapters.connect(fleet.url)) as index:
        index.prepare()
        assert index.delete(list(records)[::2])
    told = fleet.merge()
    assert (told.code, "--repair" in told.out) == (1, True)
    mended = subprocess.run(repair, capture_output=True, text=True, check=False)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert same_vectors(corpus.records(), records)
    assert fleet.merge().code == 0


def test_a_task_waits_for_a_database_that_is_down_at_its_start(corpus: Corpus) -> None:
    command = corpus.command(
        "--fleet",
        "--shard",
        "0/3",
        "--database-deadline",
        "1",
        url=f"elasticsearch://127.0.0.1:{free_port()}/away",
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 75, done.stderr
    assert "connection" in done.stderr.lower()
