"""Ledgers and a database are compared record by record, in memory that doesn't grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters import memory
from adapters.base import Adapter, Capabilities
from adapters.memory import MemoryAdapter
from adapters.schema import as_row
from engine.errors import UsageError
from engine.records import Record, record_id
from engine.repair.books import Books, missing_shards, with_ledger
from engine.repair.compare import EXAMPLES, Comparison, Difference, fault
from engine.runtime.generation import text_generation
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.runtime.report.run_directory import shard_of_folder
from tests.items import item
from tests.records import make_record, make_schema, make_vectors

URL = "memory://compare"

CHUNKER, DIGEST = "tokens-256-0", "d" * 64


@pytest.fixture
def index() -> Iterator[Adapter]:
    """An empty index in this process."""
    adapter = adapters.connect(URL)
    adapter.ensure_schema(make_schema())
    yield adapter
    memory.drop("compare")


def sound(count: int, source: str = "/corpus/file", seed: int = 0, chunker: str = CHUNKER) -> list[Record]:
    """Records whose ids are the digests of their fields."""
    made = []
    for number, vector in enumerate(make_vectors(count, seed=seed)):
        record = make_record(f"chunk {number} of {seed}", number, vector, source=source)
        key = (source, record.page, record.start, record.end, record.content_hash, chunker, DIGEST)
        made.append(replace(record, id=record_id(*key)))
    return made


def book(ledger: Ledger, records: Sequence[Record], version: int = 0, ordinal: int = 0) -> int:
    """Book the records as one acknowledged segment."""
    source = records[0].source
    row = ledger.items.find(source) or ledger.items.add(item(source), 1)
    while row.revision < version:
        ledger.items.start_revision(row.id, item("/"))
        row = ledger.items.get(row.id)
    ids = bytes.fromhex("".join(record.id for record in records))
    ledger.segments.acknowledge([Acknowledged(row.id, version, ordinal, ordinal - 1, 7, "", ids, True)])
    return row.id


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of that index; close it before the comparison."""
    (tmp_path / "run").mkdir()
    ledger = Ledger(tmp_path / "run")
    ledger.set("adapter", URL)
    yield ledger
    ledger.close()


def compared(index: Adapter, *folders: Path) -> Difference:
    with Books(with_ledger(folders), URL) as books, Comparison(books, index) as comparison:
        return comparison.difference


def counts(difference: Difference) -> tuple[int, int, int, int]:
    """Missing, extra, wrong, to be deleted."""
    return (
        difference.missing.count,
        difference.extra.count,
        difference.wrong.count,
        difference.replaced,
    )


def test_what_only_one_side_has_is_missing_or_extra(tmp_path: Path, ledger: Ledger, index: Adapter) -> None:
    records = sound(30)
    book(ledger, records[:20])
    ledger.close()
    index.write([*records[:5], *records[20:]], maybe_present=False)
    difference = compared(index, tmp_path / "run")
    assert counts(difference) == (15, 10, 0, 0)
    assert (difference.acknowledged, difference.in_database, difference.sound) == (20, 15, 5)
    assert not difference.agrees
    assert len(difference.missing.examples) == EXAMPLES
    missing = {example.id for example in difference.missing.examples}
    assert missing <= {record.id for record in records[5:20]}
    assert {(one.source, one.page) for one in difference.missing.examples} == {("/corpus/file", 7)}
    assert {one.id for one in difference.extra.examples} == {record.id for record in records[20:]}


def test_records_that_wait_for_their_deletion_are_neither_missing_nor_extra(
    tmp_path: Path, ledger: Ledger, index: Adapter
) -> None:
    old, new = sound(6), sound(4, seed=1)
    shared = old[0]
    book(ledger, old)
    file = book(ledger, [shared, *new], version=1)
    ledger.leftovers.replace(file)
    ledger.close()
    index.write([*old, *new], maybe_present=False)
    assert counts(compared(index, tmp_path / "run")) == (0, 0, 0, 5)
    index.delete([record.id for record in old[1:]])
    assert counts(compared(index, tmp_path / "run")) == (0, 0, 0, 0)
    index.delete([shared.id])  # the new version has it too
    assert counts(compared(index, tmp_path / "run")) == (1, 0, 0, 0)


def test_both_versions_are_wanted_until_the_new_one_is_acknowledged(
    tmp_path: Path, ledger: Ledger, index: Adapter
) -> None:
    old, new = sound(6), sound(4, seed=1)
    book(ledger, old)
    book(ledger, [old[0], *new[:2]], version=1)
    ledger.close()
    index.write([*old[:5], *new], maybe_present=False)
    assert counts(compared(index, tmp_path / "run")) == (1, 2, 0, 0)


def test_each_record_may_be_of_any_chunker_that_the_ledger_has_known(
    tmp_path: Path, ledger: Ledger, index: Adapter
) -> None:
    older, unknown = sound(3, chunker="tokens-64-0"), sound(2, seed=1, chunker="tokens-1-0")
    file = book(ledger, older)
    book(ledger, unknown, ordinal=1)
    ledger.items.describe(file, "text", "text/plain", text_generation("tokens-64-0", DIGEST), "hash")
    ledger.items.start_revision(file, item("/"))  # which forgets what the file was made with
    ledger.close()
    index.write([*older, *unknown], maybe_present=False)
    difference = compared(index, tmp_path / "run")
    assert counts(difference) == (0, 0, 2, 0)
    assert {one.why for one in difference.wrong.examples} == {"its id is not the digest of its fields"}


def test_what_several_ledgers_share_counts_once(tmp_path: Path, ledger: Ledger, index: Adapter) -> None:
    records = sound(8)
    book(ledger, records[:6])
    (tmp_path / "other").mkdir()
    with closing(Ledger(tmp_path / "other")) as other:
        other.set("adapter", URL)
        book(other, records[3:])
    ledger.close()
    index.write(records[:5], maybe_present=False)
    difference = compared(index, tmp_path / "run", tmp_path / "other", tmp_path / "run")
    assert (difference.acknowledged, counts(difference)) == (8, (3, 0, 0, 0))


class Twice(MemoryAdapter):
    """A database that holds one record twice, and one whose id nobody could delete."""

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        rows = list(super().scan(with_embeddings, source))
        yield from [*rows, rows[0], rows[0], {**rows[1], "id": None}]


def test_a_record_that_is_there_twice_is_wrong_and_one_without_an_id_extra(
    tmp_path: Path, ledger: Ledger, index: Adapter
) -> None:
    records = sound(3)
    book(ledger, records)
    ledger.close()
    index.write(records, maybe_present=False)
    with Books([tmp_path / "run"], URL) as books, Comparison(books, Twice("compare")) as comparison:
        assert counts(comparison.difference) == (0, 1, 1, 0)
        assert comparison.difference.wrong.examples[0].why == "there twice"
        assert list(comparison.unwanted()) == [[records[0].id]]
        assert list(comparison.items_to_make_again(0)) == [1]
        ids = [bytes.fromhex(record.id) for record in records]
        assert comparison.not_sound(ids) == {ids[0]}


FAULTS: list[tuple[dict[str, object], str]] = [
    ({"text": "other"}, "its text is not what its content_hash says"),
    ({"text": None}, "its text is not what its content_hash says"),
    ({"content_hash": "0" * 64}, "its text is not what its content_hash says"),
    ({"source": "/else"}, "its id is not the digest of its fields"),
    ({"source": None}, "its id is not the digest of its fields"),
    ({"start": 4}, "its id is not the digest of its fields"),
    ({"start": "0"}, "its id is not the digest of its fields"),
    ({"page": None}, "its id is not the digest of its fields"),
    ({"kind": "image"}, "its id is not the digest of its fields"),
    ({"kind": "video"}, "its kind is 'video'"),
    ({"kind": None}, "its kind is None"),
    ({"text_embedding": None}, "it has no vector"),
    ({"text_embedding": np.ones(5, np.float32)}, "its vector has 5 numbers, not 16"),
    ({"text_embedding": np.full(16, np.inf, np.float32)}, "its vector is not finite"),
]


@pytest.mark.parametrize(("change", "why"), FAULTS, ids=[f"{next(iter(c.items()))}"[:40] for c, _ in FAULTS])
def test_a_fault_is_told_by_its_kind(change: dict[str, object], why: str) -> None:
    row = as_row(sound(1)[0])
    assert fault(row, make_schema(), [CHUNKER], True) is None
    assert fault(row | change, make_schema(), [CHUNKER], True) == why


def test_vectors_that_a_database_does_not_give_back_are_not_judged(
    tmp_path: Path, ledger: Ledger, index: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = sound(3)
    book(ledger, records)
    ledger.close()
    index.write(records, maybe_present=False)
    monkeypatch.setattr(MemoryAdapter, "capabilities", Capabilities(vectors="none"))
    difference = compared(index, tmp_path / "run")
    assert difference.agrees and not difference.vectors_checked


def test_without_an_index_everything_is_missing(tmp_path: Path, ledger: Ledger) -> None:
    book(ledger, sound(3))
    ledger.close()
    with closing(adapters.connect("memory://nothing")) as nothing:
        assert counts(compared(nothing, tmp_path / "run")) == (3, 0, 0, 0)


class Large(MemoryAdapter):
    """Many records that are made as they are asked for; half of them are in no ledger."""

    size = 0

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        row = as_row(sound(1)[0], with_embeddings)
        for number in range(self.size):
            yield {**row, "id": f"{number:032x}"}


def peak_of(folder: Path, size: int) -> int:
    """Most bytes that Python held at once while so many records were compared."""
    folder.mkdir()
    with closing(Ledger(folder)) as ledger:
        ledger.set("adapter", URL)
        row = ledger.items.add(item("/a"), 1)
        for ordinal in range(size // 1000):
            ids = b"".join((2 * (1000 * ordinal + i)).to_bytes(16) for i in range(1000))
            ledger.segments.acknowledge([Acknowledged(row.id, 0, ordinal, ordinal - 1, None, "", ids, True)])
    large = Large("compare")
    large.size = size
    tracemalloc.start()
    try:
        difference = compared(large, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (difference.acknowledged, difference.in_database) == (size, size)
    assert counts(difference)[:2] == (size // 2, size // 2)
    return peak


def test_memory_does_not_grow_with_the_index(tmp_path: Path, index: Adapter) -> None:
    peak_of(tmp_path / "first", 1000)  # what is made once
    small, large = peak_of(tmp_path / "small", 4000), peak_of(tmp_path / "large", 40_000)
    assert large < small + 100_000


# Which directories


def test_a_directory_of_shards_stands_for_its_shards(tmp_path: Path) -> None:
    for name in ("10-of-12", "2-of-12", "0-of-2"):
        (tmp_path / "shards" / name).mkdir(parents=True)
        (tmp_path / "shards" / name / "ledger.sqlite").touch()
    (tmp_path / "shards" / "notes").mkdir()
    found = [path.name for path in with_ledger([tmp_path])]
    assert found == ["0-of-2", "2-of-12", "10-of-12"]
    missing = missing_shards(tmp_path)
    assert (len(missing), missing[0], missing[1]) == (11, "1-of-2", "0-of-12")
    assert shard_of_folder(tmp_path / "shards" / "2-of-12") == (2, 12)
    assert shard_of_folder(tmp_path / "2-of-12") == (0, 1)


def test_a_ledger_that_no_run_has_begun_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    with pytest.raises(UsageError, match="no run used it yet"):
        Books([tmp_path], URL)
    with pytest.raises(UsageError, match="no run used it yet"):  # and the lock was given back
        Books([tmp_path], URL)
