"""Ids, hashes and names are the same everywhere and hold whatever a file system or a text may hold."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ParseError, SkipFileError
from engine.records import CHECKED_ID_DIGITS, ID_HEX_DIGITS, ChunkerIdentity, record_id, source_of, text_hash

PARTS = ("/corpus/a", 1, 0, 10, "hash", "chunker", "model")


def test_an_id_is_what_it_was_when_the_first_index_was_made() -> None:
    # A change of these is a change of every record's id, and needs a new schema version.
    assert record_id(*PARTS) == "2316e6144214da08a4731ce7e6058814"
    picture = record_id("/corpus/red.png", None, None, None, "hash", "", "clip")
    assert picture == "b0f8b3b69680f394e0245813b44c101b"


@given(st.integers(0, 6), st.integers(1, 10**9))
def test_an_id_differs_when_any_of_its_parts_does(place: int, value: int) -> None:
    parts: list[object] = list(PARTS)
    parts[place] = value + 100 if isinstance(parts[place], int) else f"{parts[place]}{value}"
    other = record_id(*parts)  # type: ignore[arg-type]
    assert other != record_id(*PARTS)
    assert len(bytes.fromhex(other)) * 2 == ID_HEX_DIGITS


def test_a_document_and_a_context_make_another_id_and_half_of_it_needs_no_context() -> None:
    plain, member = record_id(*PARTS), record_id(*PARTS, document="row 1")
    assert len({plain, member, record_id(*PARTS, document="row 2")}) == 3
    pooled, other = (record_id(*PARTS, context=digest) for digest in ("aa", "bb"))
    assert len({plain, pooled, other}) == 3
    assert plain[:CHECKED_ID_DIGITS] == pooled[:CHECKED_ID_DIGITS] == other[:CHECKED_ID_DIGITS]
    assert record_id(*PARTS, document="row 1", context="aa")[:CHECKED_ID_DIGITS] == member[:CHECKED_ID_DIGITS]


def test_a_chunker_of_an_older_index_is_known_by_its_key() -> None:
    old = ChunkerIdentity.from_key("tokens=256,overlap=16,v1")
    assert (old.name, old.version, old.key) == ("tokens", "v1", "tokens=256,overlap=16,v1")
    assert old.options == (("size", 256), ("overlap", 16))
    for word in ("", "any", "tokens-256-0", "a=b,v1"):
        assert ChunkerIdentity.from_key(word) == ChunkerIdentity(word, (), "", word)


def test_neighbouring_parts_do_not_run_into_each_other() -> None:
    assert record_id("/a", 1, 12, 3, "h", "c", "m") != record_id("/a", 11, 2, 3, "h", "c", "m")
    assert record_id("/a", None, 1, 2, "h", "c", "m") != record_id("/a", 1, None, 2, "h", "c", "m")


@given(st.text(alphabet=st.characters()))
def test_any_text_has_a_hash(text: str) -> None:
    assert len(text_hash(text)) == 64
    assert text_hash(text) != text_hash(text + "\ud800")


@given(st.binary(min_size=1, max_size=50).filter(lambda name: b"\0" not in name))
def test_a_source_is_absolute_and_can_be_stored_anywhere(name: bytes) -> None:
    source = source_of(os.fsdecode(name))
    assert source.startswith("/")
    source.encode()


def test_names_in_utf8_stay_and_other_bytes_are_escaped_one_by_one() -> None:
    assert source_of("/corpus/é 🙂.txt") == "/corpus/é 🙂.txt"
    assert source_of(os.fsdecode(b"/corpus/caf\xe9\xff.txt")) == "/corpus/caf%E9%FF.txt"
    assert source_of("/corpus/../corpus//a") == "/corpus/a"


@pytest.mark.parametrize("error", [ParseError("damaged", "torn"), SkipFileError("encrypted", "by its owner")])
def test_errors_cross_a_process_border_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
