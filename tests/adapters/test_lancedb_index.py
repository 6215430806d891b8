"""LanceDB's vector index: when it is built, what a search finds with it, and what a kill leaves of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.index import BTree

import adapters
from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Filters
from adapters.lancedb import INDEX_KINDS, vector_index
from engine.errors import UsageError
from engine.records import Kind, Vector
from tests.adapters.contract import adapters_closed, stored, write
from tests.records import make_records, make_schema, make_vectors

DIMENSIONS = 128

#: So many vectors have an index.
ENOUGH = 1000


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(vector_index, "INDEX_FROM_BYTES", 4 * DIMENSIONS * ENOUGH)
    monkeypatch.setattr(vector_index, "PARTITION_ROWS", 100)
    return f"lancedb://{tmp_path}/db"


@pytest.fixture
def adapter(url: str) -> Iterator[Adapter]:
    with adapters_closed(url) as adapter:
        adapter.ensure_schema(make_schema(DIMENSIONS))
        yield adapter


def topics(n: int, seed: int = 0) -> Vector:
    """Unit vectors about a hundred topics, as those of texts are; without any, all are equally far apart."""
    chance = np.random.default_rng(seed)
    centres = make_vectors(100, DIMENSIONS, seed=123)
    vectors = centres[chance.integers(0, 100, n)] + 0.8 * make_vectors(n, DIMENSIONS, seed)
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def fill(adapter: Adapter, n: int, kind: Kind = "text", seed: int = 0) -> None:
    records = make_records(n, kind, DIMENSIONS, seed)
    write(adapter, [replace(r, embedding=v) for r, v in zip(records, topics(n, seed), strict=True)])


def indexes(url: str) -> dict[str, Any]:
    found = lancedb.connect(url.partition("://")[2]).open_table("chunks").list_indices()
    return {index.name: index for index in found}


def ids(adapter: Adapter, kind: Kind, vector: Any, filters: Filters = NO_FILTERS) -> list[str]:
    return [hit.id for hit in adapter.search(kind, vector, 10, filters)]


def recall(adapter: Adapter, url: str, filters: Filters = NO_FILTERS) -> float:
    """The share of the ten nearest that are found."""
    queries = topics(30, seed=99)
    with adapters_closed(url, AdapterOptions(exact=True)) as exact:
        pairs = [(ids(adapter, "text", q, filters), ids(exact, "text", q, filters)) for q in queries]
    assert all(len(found) == len(wanted) == 10 for found, wanted in pairs)
    return float(np.mean([len({*found} & {*wanted}) / 10 for found, wanted in pairs]))


def test_an_index_is_built_from_its_size_on_for_each_kind_by_itself(adapter: Adapter, url: str) -> None:
    fill(adapter, ENOUGH - 1)
    fill(adapter, 20, "image", seed=1)
    adapter.publish()
    assert indexes(url) == {}
    fill(adapter, 1, seed=2)
    adapter.publish()
    (index,) = indexes(url).values()
    assert (index.name, index.index_type, index.num_unindexed_rows) == ("text_embedding_idx", "IvfRq", 0)
    assert len(adapter.search("image", make_vectors(1, DIMENSIONS)[0], 30)) == 20


def test_the_nearest_are_found_with_their_exact_scores(adapter: Adapter, url: str) -> None:
    fill(adapter, 5000)
    adapter.publish()
    assert "text_embedding_idx" in indexes(url)
    assert recall(adapter, url) >= 0.95
    hit = adapter.search("text", topics(5000)[7], 1)[0]
    assert hit.text == "chunk 7 of file 0"
    assert hit.score == pytest.approx(1.0, abs=1e-5)


def test_what_was_written_since_and_what_a_filter_lets_pass_is_found(adapter: Adapter, url: str) -> None:
    for seed in range(4):
        fill(adapter, 1000, seed=seed)
    adapter.publish()
    fill(adapter, 50, seed=4)
    adapter.delete([record.id for record in make_records(5, dim=DIMENSIONS, seed=1)])
    assert indexes(url)["text_embedding_idx"].num_unindexed_rows == 50
    for number, vector in enumerate(topics(50, seed=4)[:5]):
        assert adapter.search("text", vector, 1)[0].text == f"chunk {number} of file 4"
    gone = topics(1000, seed=1)[2]
    assert adapter.search("text", gone, 1)[0].text != "chunk 2 of file 1"
    # What passes lies in partitions that may be far from the query, and then in none.
    for filters in (Filters(source_prefix="/corpus/file 3"), Filters(source_prefix="/corpus/file 4")):
        assert recall(adapter, url, filters) >= 0.99
    adapter.publish()
    assert indexes(url)["text_embedding_idx"].num_unindexed_rows == 0
    assert recall(adapter, url) >= 0.95


def test_an_index_that_the_table_outgrew_is_made_anew(adapter: Adapter, url: str) -> None:
    fill(adapter, ENOUGH)
    adapter.publish()
    before = indexes(url)["text_embedding_idx"].index_uuid
    fill(adapter, 100, seed=1)
    adapter.publish()
    fill(adapter, 1200, seed=2)
    adapter.publish()
    after = indexes(url)["text_embedding_idx"]
    assert (after.num_indexed_rows, after.num_unindexed_rows) == (2300, 0)
    assert after.index_uuid != before
    assert recall(adapter, url) >= 0.95


@pytest.mark.parametrize("kind", ["ivf_rq", "ivf_sq", "ivf_flat"])
def test_a_kind_that_is_asked_for_is_built_whatever_the_size_and_exact_drops_it(url: str, kind: str) -> None:
    with adapters_closed(f"{url}?index={kind}") as adapter:
        adapter.ensure_schema(make_schema(DIMENSIONS))
        adapter.publish()  # an empty table has nothing to train with
        fill(adapter, 300)
        adapter.publish()
        assert recall(adapter, url) >= 0.95
    assert indexes(url)["text_embedding_idx"].index_type == vector_index.INDEXES[kind].__name__
    with adapters_closed(f"{url}?index=exact") as adapter:
        adapter.publish()
    assert indexes(url) == {}


def test_dimensions_for_which_the_usual_kind_is_not_made_get_another(url: str) -> None:
    for dimensions in (132, 32):
        place = f"{url}-{dimensions}"
        with adapters_closed(place) as adapter:
            adapter.ensure_schema(make_schema(dimensions))
            write(adapter, make_records(5 * ENOUGH, dim=dimensions))
            adapter.publish()
            assert indexes(place)["text_embedding_idx"].index_type == "IvfSq"


def test_a_kind_that_can_t_hold_the_model_s_vectors_is_refused_before_there_are_any(url: str) -> None:
    with (
        adapters_closed(f"{url}?index=ivf_rq") as adapter,
        pytest.raises(
            UsageError, match=r"index=ivf_rq takes vectors of a multiple of 8 .* have 132; index=ivf_sq"
        ),
    ):
        adapter.ensure_schema(make_schema(132))
    with adapters_closed(f"{url}?index=ivf_sq") as adapter:
        adapter.ensure_schema(make_schema(132))


def test_an_index_that_somebody_else_made_stays_however_much_is_added(adapter: Adapter, url: str) -> None:
    fill(adapter, 10)
    lancedb.connect(url.partition("://")[2]).open_table("chunks").create_index("source", config=BTree())
    fill(adapter, 100, seed=1)
    adapter.publish()
    assert indexes(url)["source_idx"].num_unindexed_rows == 0


def test_an_unknown_kind_is_refused_and_all_known_ones_are_declared(url: str) -> None:
    with pytest.raises(UsageError, match=r"option index='hnsw' is not accepted; accepted are exact, ivf_rq"):
        adapters.connect(f"{url}?index=hnsw")
    assert (vector_index.EXACT, *vector_index.INDEXES) == INDEX_KINDS


KILLED_WHILE_BUILDING = """
import os, signal, sys, threading, time
from pathlib import Path
from lancedb.table import LanceTable
import adapters
from tests.adapters.test_lancedb_index import fill
from tests.records import make_schema

url = sys.argv[1]
adapter = adapters.connect(f"{url}?index=ivf_rq")
adapter.ensure_schema(make_schema(128))
adapter.prepare()
fill(adapter, 4000)
build = LanceTable.create_index

def killed(*args, **options):
    def kill():
        while not any(Path(url[10:]).glob("chunks.lance/_indices/*")):
            time.sleep(0.0005)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=kill).start()
    build(*args, **options)
    time.sleep(60)

LanceTable.create_index = killed
adapter.publish()
"""


def test_a_kill_while_the_index_is_built_leaves_the_table_whole_and_the_next_run_builds_it(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_BUILDING, url], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    with adapters_closed(url) as adapter:
        assert len(stored(adapter)) == 4000
        assert recall(adapter, url) >= 0.95
        # As the next run does, which has nothing to write.
        adapter.publish()
        assert indexes(url)["text_embedding_idx"].num_indexed_rows == 4000
        assert recall(adapter, url) >= 0.95
        assert len(stored(adapter)) == 4000
