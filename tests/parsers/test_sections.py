import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.parsers import sections
from engine.parsers.sections import (
    MAX_SECTION_CHARS,
    cut,
    cut_pieces,
    encodable,
    from_token,
    section_end,
    to_token,
)


def test_a_short_text_is_one_section() -> None:
    assert list(cut("a line\n\nanother")) == [(0, 15)]


def test_no_text_is_no_section() -> None:
    assert list(cut("")) == []


def _filled(tail: str) -> str:
    """A text whose window ends with `tail`, and goes on after it."""
    return "x" * (MAX_SECTION_CHARS - len(tail)) + tail + "y" * 100


def test_a_paragraph_end_is_taken_before_a_later_line_end_sentence_or_blank() -> None:
    text = _filled("para\n\nline\nSentence. word word")
    assert text[: section_end(text)].endswith("para\n\n")


def test_a_line_end_is_taken_before_a_later_sentence_or_blank() -> None:
    text = _filled("line\nSentence. word word")
    assert text[: section_end(text)].endswith("line\n")


def test_a_sentence_end_is_taken_before_a_later_blank() -> None:
    text = _filled('"Sentence." word word')
    assert text[: section_end(text)].endswith('"Sentence." ')


def test_a_blank_is_taken_before_a_cut_inside_a_word() -> None:
    text = _filled("word word")
    assert text[: section_end(text)].endswith("word ")


def test_a_text_without_any_border_is_cut_at_the_largest_size() -> None:
    assert section_end("x" * (MAX_SECTION_CHARS + 1)) == MAX_SECTION_CHARS


def test_an_accent_stays_with_its_letter() -> None:
    text = "x" * (MAX_SECTION_CHARS - 1) + "e\u0301" + "y" * 10
    assert section_end(text) == MAX_SECTION_CHARS - 1


def test_a_windows_line_end_is_no_paragraph_end_and_stays_whole() -> None:
    text = "x" * (MAX_SECTION_CHARS - 1) + "\r\n" + "y" * 10
    assert section_end(text) == MAX_SECTION_CHARS - 1
    text = _filled("a\r\n\r\nb\r\nc")
    assert text[: section_end(text)].endswith("a\r\n\r\n")


def test_a_border_too_far_back_is_not_taken() -> None:
    text = "a\n\n" + "x" * MAX_SECTION_CHARS
    assert section_end(text) == MAX_SECTION_CHARS


@given(st.text("ab \n\r.é\u0301", min_size=0, max_size=60).map(lambda t: t * (3 * MAX_SECTION_CHARS // 60)))
def test_sections_are_the_text_and_none_is_too_long(text: str) -> None:
    spans = list(cut(text))
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(0 < b - a <= sections.MAX_SECTION_CHARS for a, b in spans)
    for _, end in spans:
        assert [span for span in spans if span[0] >= end] == list(cut(text, end))


def test_nul_and_lone_surrogates_are_replaced_one_for_one() -> None:
    assert encodable("a\0b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"


def test_a_token_comes_back_as_it_was() -> None:
    assert from_token(to_token(unit=3, encoding="utf-8")) == {"unit": 3, "encoding": "utf-8"}


@given(st.lists(st.text(alphabet="ab. \n", max_size=40), max_size=30), st.integers(0, 20))
def test_a_text_in_pieces_has_the_same_sections(pieces: list[str], resumed: int) -> None:
    text = "".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sections, "MAX_SECTION_CHARS", 50)
        patch.setattr(sections, "LOOK_BACK_CHARS", 12)
        whole = [(start, text[start:end]) for start, end in cut(text)]
        assert list(cut_pieces(pieces)) == whole
        first = min(resumed, len(whole))
        start = whole[first][0] if first < len(whole) else len(text)
        assert list(cut_pieces(pieces, start)) == whole[first:]
