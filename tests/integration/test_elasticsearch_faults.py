"""A real node that is killed, frozen, emptied or full while a run loads it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from elasticsearch import Elasticsearch

from tests.disks import fill, small_disk
from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE, wait_for_records
from tests.servers import free_port, node_folder, require, script

#: A rate at which the corpus takes some seconds, so that a fault comes in the middle of it.
TEXT_MODEL = "stand-in:16@10000"

#: Files of the corpus, and lines in each.
FILES, LINES = 8, 800

#: Bytes of the small file system: the node's own files take a small part of it.
DISK_BYTES = 192 * 2**20


@dataclass(frozen=True)
class Node:
    """A node of the tests' own, since it will suffer."""

    folder: Path
    port: int

    @property
    def _options(self) -> tuple[str, ...]:
        data = ("--data", str(self.folder), "--heap", "512m")
        return ("--version", "8.19.21", "--port", str(self.port), *data)

    def start(self) -> None:
        require(script("start", *self._options))

    def stop(self) -> None:
        script("stop", *self._options)

    def processes(self) -> list[psutil.Process]:
        """What the node consists of."""
        mine = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get("VECTOR_ENGINE_NODE", "")
            except psutil.Error:
                continue
            if mark.endswith(f" {self.folder}"):
                mine.append(process)
        return mine

    def kill(self) -> None:
        """SIGKILL each of its processes, and wait for their ends."""
        mine = self.processes()
        assert mine
        for process in mine:
            process.kill()
        psutil.wait_procs(mine, timeout=HANG_S)

    def client(self) -> Elasticsearch:
        return Elasticsearch(f"http://127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with node_folder() as folder:
        node = Node(folder, free_port())
        try:
            node.start()
            yield node
        finally:
            node.stop()


@contextmanager
def loading(tmp_path: Path, node: Node, *options: str) -> Iterator[tuple[Corpus, str, psutil.Popen]]:
    """A run in the middle of its load into an index of its own: the corpus, the URL and the process."""
    corpus = Corpus(tmp_path)
    for number in range(FILES):
        corpus.write(f"file {number}.txt", "".join(f"{number}, {i}: {PROSE}" for i in range(LINES)))
    url = f"elasticsearch://127.0.0.1:{node.port}/load-{uuid.uuid4().hex[:12]}"
    with corpus.started("--adapter", url, *options, text_model=TEXT_MODEL) as process:
        wait_for_records(corpus, 50)
        yield corpus, url, process


def generation(url: str) -> str:
    return f"{url.rpartition('/')[2]}-000001"


def trouble(corpus: Corpus) -> str | None:
    """What the run tells of the database."""
    told: str | None = json.loads((corpus.run_dir / "status.json").read_text())["database"]
    return told


def expect_undisturbed(corpus: Corpus, url: str) -> None:
    """The index holds what a run that nothing disturbed writes."""
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    records = corpus.records(url)
    assert summary["totals"]["records"] == len(records)
    plain = Corpus.__new__(Corpus)
    plain.root, plain.files = corpus.root / "plain", corpus.files
    assert plain.run().code == 0
    assert same_vectors(records, plain.records())


def test_a_node_killed_and_restarted_in_mid_run_ends_up_with_everything(tmp_path: Path, node: Node) -> None:
    with loading(tmp_path, node) as (corpus, url, process):
        node.kill()
        node.start()
        assert process.wait(HANG_S) == 0
    expect_undisturbed(corpus, url)


def test_a_read_only_block_is_waited_for_and_told_of(tmp_path: Path, node: Node) -> None:
    with loading(tmp_path, node) as (corpus, url, process), node.client() as client:
        client.indices.put_settings(index=generation(url), settings={"index.blocks.read_only": True})
        wait_until(lambda: "blocked by" in (trouble(corpus) or ""))
        client.indices.put_settings(index=generation(url), settings={"index.blocks.read_only": None})
        assert process.wait(HANG_S) == 0
    expect_undisturbed(corpus, url)


def test_an_index_deleted_in_mid_run_ends_it_and_is_not_made_again(tmp_path: Path, node: Node) -> None:
    with loading(tmp_path, node) as (corpus, url, process), node.client() as client:
        client.indices.delete(index=generation(url))
        assert process.wait(HANG_S) == 1
        assert "deleted or replaced during the run" in process.stderr.read()
        assert not client.indices.exists(index=f"{generation(url)},{url.rpartition('/')[2]}").body
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["exit_code"]) == ("error", 1)


def test_a_node_down_for_longer_than_the_deadline_ends_the_run_resumable(tmp_path: Path, node: Node) -> None:
    with loading(tmp_path, node, "--database-deadline", "5") as (corpus, url, process):
        node.kill()
        try:
            assert process.wait(HANG_S) == 75
            assert "did not answer for 5 s" in process.stderr.read()
        finally:
            node.start()
    result = corpus.run(url=url)
    assert result.code == 0, result.err
    expect_undisturbed(corpus, url)


@pytest.fixture
def full_node() -> Iterator[Node]:
    """A node whose disk is soon full."""
    with small_disk(DISK_BYTES) as folder:
        node = Node(folder, free_port())
        try:
            node.start()
            yield node
        finally:
            node.stop()


def test_a_full_disk_is_waited_for_until_there_is_room(tmp_path: Path, full_node: Node) -> None:
    with loading(tmp_path, full_node) as (corpus, url, process), full_node.client() as client:
        ballast = fill(full_node.folder)
        wait_until(lambda: trouble(corpus))
        ballast.unlink()
        # The server gives a shard up after five failures, until an operator asks for another try.
        client.cluster.reroute(retry_failed=True, metric="none")
        assert process.wait(HANG_S) == 0
    expect_undisturbed(corpus, url)
