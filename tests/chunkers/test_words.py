"""Words one by one have the ids that they have together, and what is remembered of them is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from tokenizers import AddedToken

from engine.chunkers import words as module
from engine.chunkers.tokenizer import FileTokens
from engine.chunkers.words import Words, reads_words_alone
from tests.chunkers import tokenizers as small

BERT = small.wordpiece_lower()


def test_only_tokenizers_of_berts_kind_read_words_alone() -> None:
    assert [family.__name__ for family in small.FAMILIES if reads_words_alone(family())] == [
        "wordpiece_lower"
    ]


@pytest.mark.parametrize(
    "token", [AddedToken("<a>", lstrip=True), AddedToken("<a>", rstrip=True), AddedToken("a b")]
)
def test_a_token_that_takes_the_space_beside_it_along_binds_words_together(token: AddedToken) -> None:
    tokenizer = small.wordpiece_lower()
    tokenizer.add_tokens([token])
    assert not reads_words_alone(tokenizer)


@given(text=small.texts)
def test_ids_and_starts_are_those_of_the_whole_text(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    starts, ids = Words(BERT).read(text)
    encoding = BERT.encode(text, add_special_tokens=False)
    assert ids.tolist() == encoding.ids
    offsets = [start for start, _ in encoding.offsets]
    assert starts.tolist() == (np.maximum.accumulate(offsets).tolist() if offsets else [])


def test_what_is_remembered_is_bounded_and_forgetting_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", 20_000)
    words = Words(BERT)
    for number in range(200):
        text = " ".join(f"{number}x{i} the {small.ENGLISH}" for i in range(20))
        assert words.read(text)[1].tolist() == BERT.encode(text, add_special_tokens=False).ids
        # Of one text more than the limit may be known, and no more than it has words.
        assert words._size <= 20_000 + 60 * (module.WORD_BYTES + 200)
        assert len(words._known) < 200


@pytest.mark.parametrize("prompt", ["", "passage: ", "Represent this\n"])
def test_a_frame_and_the_ids_between_two_spaces_are_the_input_for_what_stands_there(
    prompt: str, tmp_path: Path
) -> None:
    tokens = FileTokens(small.saved(tmp_path, small.wordpiece_lower))
    text = f"{small.ENGLISH}{small.CHINESE} [MASK] {small.MARKS}\n{small.ENGLISH}"
    reading, frame = tokens.read(text), tokens.frame(prompt)
    assert reading.ids is not None
    assert frame is not None
    spaces = [i for i, character in enumerate(text) if character in " \n"]
    for start, end in zip([s + 1 for s in spaces], spaces[5:], strict=False):
        first, last = np.searchsorted(reading.starts, [start, end])
        whole = [*frame[0], *reading.ids[first:last], *frame[1]]
        assert whole == tokens.encode(prompt + text[start:end]).tolist()


def test_there_is_no_frame_where_a_prompt_may_grow_together_with_the_text(tmp_path: Path) -> None:
    assert FileTokens(small.saved(tmp_path, small.wordpiece_lower)).frame("Represent") is None
    assert FileTokens(small.saved(tmp_path, small.unigram)).frame("") is None


def test_a_text_with_a_word_that_no_window_holds_has_no_ids(tmp_path: Path) -> None:
    tokens = FileTokens(small.saved(tmp_path, small.wordpiece_lower))
    assert tokens.read("a " + "x" * 20_000 + " b").ids is None
    assert tokens.read("a " * 20_000).ids is not None
