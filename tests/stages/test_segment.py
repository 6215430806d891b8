"""A segment keeps its columns together and becomes records of exactly its chunks."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HandOverError
from engine.stages.segment import Checkpoint, Segment
from tests.stages.made import make_embedded, make_picture, make_segment

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@given(st.none() | st.text(), st.integers(0, 2**40), st.integers(0, 2**20))
def test_a_checkpoint_comes_back_from_its_string(resume: str | None, chunks: int, sub: int) -> None:
    checkpoint = Checkpoint(resume, chunks, sub)
    assert Checkpoint.loads(checkpoint.dumps()) == checkpoint


@given(st.lists(st.integers(0, 5), max_size=20))
def test_token_ids_come_apart_as_they_were_put_together(lengths: list[int]) -> None:
    arrays = [np.full(length, i, np.int32) for i, length in enumerate(lengths)]
    together = np.concatenate(arrays) if arrays else None
    segment = make_segment(0, lengths=lengths, token_ids=together)
    parts = segment.chunk_ids()
    assert len(parts) == len(lengths)
    assert all(np.array_equal(part, array) for part, array in zip(parts, arrays, strict=True))
    assert segment.tokens == sum(lengths)


def test_a_text_record_has_its_chunk_its_place_and_its_own_vector() -> None:
    records = make_embedded(3, "poem").records("model", NOW, {"team": "blue"})
    last = records[2]
    assert [record.position for record in records] == [0, 1, 2]
    assert (last.text, last.start, last.end, last.kind, last.page) == ("poem 2", 2, 3, "text", None)
    assert (last.model, last.indexed_at, last.size, last.fields) == ("model", NOW, 4096, {"team": "blue"})
    assert last.embedding.tolist() == [2.0] * 8
    assert last.mtime == datetime(2024, 2, 29, 12, 30, 15, 123457, tzinfo=UTC)


def test_a_record_says_which_document_it_is_from_and_what_stands_above_it() -> None:
    segment = make_embedded(2)
    assert {(r.document, r.title, r.headings) for r in segment.records("model", NOW, {})} == {(None,) * 3}
    segment = make_embedded(
        2, document="row 7", title="Bees", headings=[None, "Hive > Queen"],
        fields={"year": 1901, "team": "theirs"},
    )  # fmt: skip
    first, second = segment.records("model", NOW, {"team": "blue"})
    assert (first.document, first.title, first.headings) == ("row 7", "Bees", None)
    assert second.headings == "Hive > Queen"
    assert first.fields == second.fields == {"year": 1901, "team": "blue"}


def test_a_picture_record_has_neither_text_nor_offsets() -> None:
    (record,) = make_embedded(1, kind="image").records("clip", NOW, {})
    assert (record.kind, record.text, record.start, record.end) == ("image", None, None, None)


@pytest.mark.parametrize("vectors", [0, 2, 4])
def test_vectors_that_are_not_as_many_as_the_chunks_are_an_error_and_never_a_shift(vectors: int) -> None:
    with pytest.raises(HandOverError, match=f"{vectors} vectors for 3 chunks .*/corpus/file"):
        make_embedded(3, vectors=vectors).records("model", NOW, {})


@pytest.mark.parametrize("mtime_ns", [0, -1, 2**63 - 1, -(2**63 - 1)])
def test_the_strangest_times_that_a_ledger_holds_become_dates(mtime_ns: int) -> None:
    segment = make_embedded(1, mtime_ns=mtime_ns)
    assert segment.records("model", NOW, {})[0].mtime.year in (1677, 1969, 1970, 2262)


def test_a_segment_survives_a_channel() -> None:
    segment = make_segment(2)
    copy = pickle.loads(pickle.dumps(segment))
    assert (copy.ids, copy.texts, copy.lengths) == (segment.ids, segment.texts, segment.lengths)
    assert [each.tolist() for each in copy.chunk_ids()] == [[1, 0, 2], [1, 1, 2]]


@pytest.mark.parametrize(
    "segment", [make_segment(2), make_picture(), make_embedded(2), make_embedded(1, kind="image")]
)
def test_no_form_of_a_segment_can_be_changed(segment: Segment) -> None:
    for each in dataclasses.fields(segment):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(segment, each.name, None)


def test_what_is_embedded_keeps_all_but_the_model_s_input() -> None:
    segment = make_segment(2, document="row 7", headings=["A", None], maybe_present=True)
    embedded = segment.embedded(np.zeros((2, 8), np.float32), {1: "too large"})
    assert embedded.shared() == segment.shared()
    assert (embedded.texts, embedded.starts, embedded.headings) == (
        segment.texts, segment.starts, segment.headings,
    )  # fmt: skip
    assert not hasattr(embedded, "token_ids")
    assert not hasattr(make_picture().embedded(np.zeros((1, 8), np.float32)), "pixels")
