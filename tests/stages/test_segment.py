"""A segment keeps its columns together and becomes records of exactly its chunks."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HandOverError
from engine.stages.segment import Checkpoint
from tests.stages.made import make_segment

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@given(st.none() | st.text(), st.integers(0, 2**40), st.integers(0, 2**20))
def test_a_checkpoint_comes_back_from_its_string(resume: str | None, chunks: int, sub: int) -> None:
    checkpoint = Checkpoint(resume, chunks, sub)
    assert Checkpoint.loads(checkpoint.dumps()) == checkpoint


@given(st.lists(st.integers(0, 5), max_size=20))
def test_token_ids_come_apart_as_they_were_put_together(lengths: list[int]) -> None:
    segment = make_segment(0)
    arrays = [np.full(length, i, np.int32) for i, length in enumerate(lengths)]
    segment.lengths = lengths
    segment.token_ids = np.concatenate(arrays) if arrays else None
    parts = segment.chunk_ids()
    assert len(parts) == len(lengths)
    assert all(np.array_equal(part, array) for part, array in zip(parts, arrays, strict=True))
    assert segment.tokens == sum(lengths)


def test_a_text_record_has_its_chunk_its_place_and_its_own_vector() -> None:
    records = make_segment(3, "poem").records("model", NOW, {"team": "blue"})
    last = records[2]
    assert [record.position for record in records] == [0, 1, 2]
    assert (last.text, last.start, last.end, last.kind, last.page) == ("poem 2", 2, 3, "text", None)
    assert (last.model, last.indexed_at, last.size, last.fields) == ("model", NOW, 4096, {"team": "blue"})
    assert last.embedding.tolist() == [2.0] * 8
    assert last.mtime == datetime(2024, 2, 29, 12, 30, 15, 123457, tzinfo=UTC)


def test_a_record_says_which_document_it_is_from_and_what_stands_above_it() -> None:
    segment = make_segment(2)
    assert {(r.document, r.title, r.headings) for r in segment.records("model", NOW, {})} == {(None,) * 3}
    segment.document, segment.title, segment.headings = "row 7", "Bees", [None, "Hive > Queen"]
    segment.fields = {"year": 1901, "team": "theirs"}
    first, second = segment.records("model", NOW, {"team": "blue"})
    assert (first.document, first.title, first.headings) == ("row 7", "Bees", None)
    assert second.headings == "Hive > Queen"
    assert first.fields == second.fields == {"year": 1901, "team": "blue"}


def test_a_picture_record_has_neither_text_nor_offsets() -> None:
    (record,) = make_segment(1, kind="image").records("clip", NOW, {})
    assert (record.kind, record.text, record.start, record.end) == ("image", None, None, None)


@pytest.mark.parametrize("vectors", [None, 0, 2, 4])
def test_vectors_that_are_not_as_many_as_the_chunks_are_an_error_and_never_a_shift(
    vectors: int | None,
) -> None:
    segment = make_segment(3)
    segment.vectors = None if vectors is None else np.zeros((vectors, 8), np.float32)
    with pytest.raises(HandOverError, match=f"{vectors or 0} vectors for 3 chunks .*/corpus/file"):
        segment.records("model", NOW, {})


@pytest.mark.parametrize("mtime_ns", [0, -1, 2**63 - 1, -(2**63 - 1)])
def test_the_strangest_times_that_a_ledger_holds_become_dates(mtime_ns: int) -> None:
    segment = make_segment(1)
    segment.mtime_ns = mtime_ns
    assert segment.records("model", NOW, {})[0].mtime.year in (1677, 1969, 1970, 2262)


def test_a_segment_survives_a_channel() -> None:
    segment = make_segment(2)
    copy = pickle.loads(pickle.dumps(segment))
    assert (copy.ids, copy.texts, copy.lengths) == (segment.ids, segment.texts, segment.lengths)
    assert [each.tolist() for each in copy.chunk_ids()] == [[1, 0, 2], [1, 1, 2]]
