"""The promise of `engine.chunkers.base.Chunker` as tests; each chunker's own test module subclasses them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from engine import chunkers
from engine.chunkers.base import MAX_CHUNK_BYTES, Chunker
from engine.errors import UsageError
from engine.models.spec import TextSpec
from engine.records import Chunk, ChunkerChoice, TextSection
from tests.chunkers import tokenizers as small

#: Property tests over whole texts: few examples, each of them long.
property_test = settings(
    deadline=None, database=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)


def section(text: str) -> TextSection:
    """A section of that text, and of nothing else."""
    return TextSection(unit=0, page=None, start=0, text=text, resume="")


def check_chunks(spec: TextSpec, chunker: Chunker, text: str) -> list[Chunk]:
    """Everything that must hold of the chunks of any text."""
    chunks = list(chunker.chunks(section(text)))
    again = [(chunk.start, chunk.end) for chunk in chunker.chunks(section(text))]
    assert again == [(chunk.start, chunk.end) for chunk in chunks]
    covered = np.zeros(len(text), dtype=bool)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip() != ""
        assert len(chunk.text.encode("utf-8", "surrogatepass")) <= MAX_CHUNK_BYTES
        assert spec.max_tokens is None or chunk.tokens <= spec.max_tokens
        covered[chunk.start : chunk.end] = True
        if spec.mode == "text":
            assert chunk.token_ids is None
        else:
            assert chunk.token_ids is not None
            assert chunk.token_ids.dtype == np.int32
            assert chunk.tokens == len(chunk.token_ids)
    assert all(covered[place] or text[place].isspace() for place in range(len(text)))
    for one, next_one in itertools.pairwise(chunks):
        assert one.start < next_one.start
        assert one.end < next_one.end
    return chunks


class ChunkerContract:
    """Subclasses say which chunker, and with which options beside its defaults."""

    #: The registered name, and options that are accepted.
    choice: ChunkerChoice

    @pytest.fixture(params=["ids", "text"])
    def spec(self, request: pytest.FixtureRequest) -> TextSpec:
        return small.spec(None, "passage: ", 64, request.param)

    @pytest.fixture
    def chunker(self, spec: TextSpec) -> Chunker:
        return chunkers.make(spec, self.choice)

    def test_chunks_of_any_text_are_whole_and_fit_the_model(self, spec: TextSpec) -> None:
        chunker = chunkers.make(spec, self.choice)

        @property_test
        @given(text=small.texts)
        def holds(text: str) -> None:
            check_chunks(spec, chunker, text)

        holds()

    def test_a_word_without_any_place_to_cut_is_cut_all_the_same(
        self, spec: TextSpec, chunker: Chunker
    ) -> None:
        for word in ("x", "水", "👍🏽"):
            assert len(check_chunks(spec, chunker, f"before {word * 10_000} after")) > 4

    def test_blank_space_is_no_chunk(self, chunker: Chunker) -> None:
        blank = " \n\t\r\n\u3000\u00a0" * 5_000
        assert list(chunker.chunks(section(""))) == []
        assert list(chunker.chunks(section(blank))) == []

    def test_chunks_depend_on_no_section_before(self, spec: TextSpec, chunker: Chunker) -> None:
        text = "\n".join(small.PIECES)
        list(chunker.chunks(section(text[::-1])))
        other = chunkers.make(spec, self.choice)
        assert [(chunk.start, chunk.end) for chunk in chunker.chunks(section(text))] == [
            (chunk.start, chunk.end) for chunk in other.chunks(section(text))
        ]

    def test_chunks_come_as_they_are_asked_for(self, chunker: Chunker) -> None:
        found = chunker.chunks(section(small.ENGLISH * 100))
        assert isinstance(found, Iterator)
        assert next(found).start == 0

    def test_the_identity_makes_an_equal_chunker(self, spec: TextSpec, chunker: Chunker) -> None:
        identity = chunker.identity
        assert identity.name == self.choice.name
        assert identity.version
        assert re.fullmatch(r"\S+", identity.key) and "\0" not in identity.key
        again = chunkers.remake(spec, identity)
        assert again.identity == identity
        text = small.ENGLISH * 20
        assert list(map(repr, again.chunks(section(text)))) == list(map(repr, chunker.chunks(section(text))))

    def test_every_option_that_was_given_is_in_the_identity(self, chunker: Chunker) -> None:
        in_force = {name: str(value) for name, value in chunker.identity.options}
        assert in_force.items() >= self.choice.given().items()

    def test_an_unknown_option_is_refused_with_those_that_are_accepted(
        self, spec: TextSpec, chunker: Chunker
    ) -> None:
        choice = ChunkerChoice(self.choice.name, options=(("no_such_option", "1"),))
        with pytest.raises(UsageError, match="has no option 'no_such_option'; accepted are ") as refused:
            chunkers.make(spec, choice)
        for name, _ in chunker.identity.options:
            assert name in str(refused.value)
