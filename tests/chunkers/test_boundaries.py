"""Places where a text may be cut, by themselves; how chunks use them is told in test_chunk."""

from __future__ import annotations

import itertools

import pytest

from engine.chunkers.boundaries import LONGEST_RUN, best_cut, cluster_border, is_cluster_border, overlap_start


def borders(text: str) -> list[str]:
    """The text's parts between cluster borders."""
    places = [place for place in range(len(text) + 1) if is_cluster_border(text, place)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(
    "parts",
    [
        ["a", "b"],
        ["e\u0301\u0323", "é"],
        ["\r\n", "\n", "\r"],
        ["👩‍👩‍👧‍👦", "👍🏽", "👍"],
        ["🇫🇷", "🇩🇪", "🇪"],
        ["x", "🇫🇷", "y", "🇩🇪"],
        ["🏴󠁧󠁢󠁷󠁬󠁳󠁿", "!"],
        ["한", "\u1112\u1161\u11ab", "\u1100\u1100\u1161"],
        ["क्षि", "क"],
        ["นํ้", "า", "น้ำ"],
        ["\ud83d\ude00", "\ud83d", "a"],
    ],
)
def test_a_text_falls_into_what_a_reader_sees_as_characters(parts: list[str]) -> None:
    assert borders("".join(parts)) == parts


def test_a_run_of_flags_longer_than_is_counted_back_keeps_its_flags() -> None:
    text = "a" + "🇪🇺" * LONGEST_RUN
    assert is_cluster_border(text, 1 + 2 * 3_000)
    assert not is_cluster_border(text, 1 + 2 * 2_000 - 1)


def test_a_cut_comes_no_earlier_than_the_first_place_and_no_later_than_the_last() -> None:
    text = "one. two. three four"
    assert best_cut(text, 5, 5, 12) == text.index(" three")
    assert best_cut(text, 1, 1, 8) == text.index(" two")
    assert best_cut(text, 11, 11, 14) == 14


def test_blank_lines_that_start_right_at_the_last_place_are_seen() -> None:
    assert best_cut("one. two\n\nthree", 1, 1, 8) == 8


def test_a_cluster_without_a_border_in_reach_is_cut_at_the_last_place() -> None:
    assert cluster_border("a" + "\u0301" * 9, 2, 6) == 6


def test_an_overlap_starts_at_the_word_before_its_target() -> None:
    text = "alpha beta gamma " + "d" * 60
    assert overlap_start(text, 13, 1, 70) == text.index("gamma")
    assert overlap_start(text, 3, 1, 70) == text.index("beta")
    assert overlap_start(text, 50, 1, 70) == 50
