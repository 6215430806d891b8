"""Counting tokens: what each way of counting says of where tokens begin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.chunkers.tokenizer import (
    WINDOW,
    ByteTokens,
    FileTokens,
    StandInTokens,
    Tokens,
    load_tokens,
    windows,
)
from engine.models.stand_in import STAND_IN_TOKEN
from tests.chunkers import tokenizers as small


def test_the_way_of_counting_follows_the_spec(tmp_path: Path) -> None:
    path = small.saved(tmp_path, small.unigram)
    assert isinstance(load_tokens(small.spec(path, mode="text")), FileTokens)
    assert isinstance(load_tokens(small.spec(None, mode="ids")), StandInTokens)
    assert isinstance(load_tokens(small.spec(None, mode="text")), ByteTokens)


def test_windows_cover_a_text_and_end_before_spaces_where_there_are_some() -> None:
    for text in ("", "word " * 5_000, "x" * 20_000, "x" * WINDOW, "x" * 8_000 + "\n" + "y" * 8_000):
        parts = [text[start:end] for start, end in windows(text)]
        assert "".join(parts) == text
        assert all(0 < len(part) <= WINDOW for part in parts)
        if " " in text:
            assert all(part[0] == " " for part in parts[1:])


@pytest.mark.parametrize("family", small.FAMILIES)
def test_token_starts_ascend_and_are_those_of_the_whole_text(family: small.Family, tmp_path: Path) -> None:
    tokens = FileTokens(small.saved(tmp_path, family))
    text = (small.ENGLISH * 100).strip()
    starts = tokens.read(text).starts
    assert (np.diff(starts) >= 0).all()
    assert 0 <= starts[0] < starts[-1] < len(text)
    special = len(tokens.encode(""))
    # One token more or less at each border of two windows.
    assert abs(len(starts) + special - len(tokens.encode(text))) <= 2 * len(list(windows(text)))


@pytest.mark.parametrize("tokens", [StandInTokens(), ByteTokens()])
def test_without_a_file_starts_and_ids_agree(tokens: Tokens) -> None:
    text = small.ENGLISH + small.EMOJI + "\ud800" + small.THAI
    assert len(tokens.encode(text)) == len(tokens.read(text).starts) + 2
    assert len(tokens.encode("")) == 2


def test_a_stand_in_token_starts_where_its_pattern_matches() -> None:
    text = "internationally, yes"
    assert StandInTokens().read(text).starts.tolist() == [
        match.start() for match in STAND_IN_TOKEN.finditer(text)
    ]


def test_bytes_start_at_their_character() -> None:
    assert ByteTokens().read("a水b").starts.tolist() == [0, 1, 1, 1, 2]


def test_half_a_surrogate_pair_is_tokenised_as_a_replacement_character(tmp_path: Path) -> None:
    tokens = FileTokens(small.saved(tmp_path, small.byte_level_bpe))
    assert tokens.encode("a\ud800b").tolist() == tokens.encode("a\ufffdb").tolist()
