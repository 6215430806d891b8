"""Chunkers are had by name, with their own options, and what the engine can't serve is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional

import numpy as np
import pytest

from engine import chunkers
from engine.chunkers.base import Chunker, Embed, identity
from engine.errors import UsageError
from engine.models.spec import TextSpec
from engine.records import Chunk, ChunkerChoice, ChunkerIdentity, TextSection, Vector
from engine.registry import Registry
from tests.chunkers import tokenizers as small
from tests.chunkers.contract import section

if TYPE_CHECKING:
    from engine.models.spec import TextSpec as Imported


class Words(Chunker):
    """A chunk for so many words; its options are of every kind."""

    def __init__(
        self,
        spec: TextSpec,
        words: int = 3,
        share: float = 0.5,
        strict: bool = False,
        mark: str = " ",
        most: int | None = None,
    ) -> None:
        self.identity = identity("words", "v1", words=words, share=share, strict=strict, mark=mark)
        self.most = most

    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        yield from ()


class ByVectors(Words):
    """Cuts where the vectors of two words differ."""

    needs_vectors = True

    def __init__(self, spec: TextSpec, embed: Embed, words: int = 3) -> None:
        super().__init__(spec, words)
        self._embed = embed

    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        assert self._embed([section.text]).shape == (1, 4)
        yield Chunk(0, len(section.text), section.text, None, 1)


class Pooled(Words):
    """Would take its vectors from a whole page."""

    pooled = True


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sys.modules[__name__].__name__
    parts = {"words": f"{here}:Words", "by-vectors": f"{here}:ByVectors", "pooled": f"{here}:Pooled"}
    monkeypatch.setattr(chunkers, "CHUNKERS", Registry("chunkers", parts))


SPEC = small.spec(None)


def refusal(name: str, **options: str) -> str:
    with pytest.raises(UsageError) as refused:
        chunkers.make(SPEC, ChunkerChoice(name, options=tuple(options.items())))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_name_that_nobody_registered_is_refused_with_those_that_are_there() -> None:
    assert refusal("tokns") == "--chunker tokns: unknown; accepted are words, by-vectors, pooled"


def test_options_come_as_the_constructor_annotates_them() -> None:
    given = (("share", "0.25"), ("strict", "true"), ("mark", "a, b"), ("most", "7"))
    made = chunkers.make(SPEC, ChunkerChoice("words", options=(("words", "5"), *given)))
    in_force = {"words": 5, "share": 0.25, "strict": True, "mark": "a, b"}
    assert dict(made.identity.options) == in_force
    assert made.identity.key == "words:words=5,share=0.25,strict=True,mark=a%2C%20b,v1"
    assert isinstance(made, Words)
    assert made.most == 7
    assert chunkers.remake(SPEC, made.identity).identity == made.identity


def test_an_option_that_a_chunker_lacks_is_refused_whichever_flag_gives_it() -> None:
    accepted = "accepted are words, share, strict, mark, most"
    assert refusal("words", wrds="5") == f"--chunker words: has no option 'wrds'; {accepted}"
    with pytest.raises(UsageError, match="--chunker words: has no option 'size'; accepted are words, "):
        chunkers.make(SPEC, ChunkerChoice("words", size=64))
    with pytest.raises(UsageError, match="--chunker words: has no option 'overlap'; accepted are words, "):
        chunkers.make(SPEC, ChunkerChoice("words", overlap=8))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("words", "many", "a whole number"),
        ("most", "1.5", "a whole number"),
        ("share", "half", "a number"),
        ("strict", "maybe", "true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(option: str, value: str, kind: str) -> None:
    assert refusal("words", **{option: value}) == f"--chunker words: {option} {value!r} is not {kind}"


def test_a_chunker_that_needs_vectors_is_handed_them_where_there_is_a_model_and_else_refused() -> None:
    assert "--chunker by-vectors: embeds texts to find its cuts, and the parsers" in refusal("by-vectors")

    def embed(texts: object) -> Vector:
        return np.ones((1, 4), dtype=np.float32)

    made = chunkers.make(SPEC, ChunkerChoice("by-vectors"), embed)
    assert [chunk.text for chunk in made.chunks(section("all of it"))] == ["all of it"]


def test_a_chunker_whose_vectors_are_pooled_is_refused() -> None:
    assert refusal("pooled").startswith("--chunker pooled: pools a chunk's vector from a larger input")


def test_an_index_that_was_cut_otherwise_is_not_cut_again() -> None:
    made = ChunkerIdentity("words", (("words", 3),), "v0", "words:words=3,v0")
    with pytest.raises(UsageError, match=r"^cut by words:words=3,v0, but here words cuts by words:.*,v1; "):
        chunkers.remake(SPEC, made)
    with pytest.raises(UsageError, match="--chunker gone: unknown; accepted are words"):
        chunkers.remake(SPEC, ChunkerIdentity.from_key("gone"))


class Unannotated(Words):
    """Breaks the contract: an option without a type."""

    def __init__(self, spec: TextSpec, words=3) -> None:  # type: ignore[no-untyped-def] # what is tested
        super().__init__(spec)


class WithOptional(Words):
    """Has `Optional`, the older way to write `| None`."""

    def __init__(self, spec: TextSpec, words: Optional[int] = None) -> None:  # noqa: UP045 - what is tested
        super().__init__(spec, words or 1)


class WithUnknownName(Words):
    """Names a type that was imported for a type checker alone."""

    def __init__(self, spec: Imported, words: int = 3) -> None:
        super().__init__(spec, words)


def test_a_constructor_that_breaks_the_contract_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = sys.modules[__name__].__name__
    parts = {
        "bare": f"{here}:Unannotated",
        "optional": f"{here}:WithOptional",
        "unknown": f"{here}:WithUnknownName",
    }
    monkeypatch.setattr(chunkers, "CHUNKERS", Registry("chunkers", parts))
    assert refusal("bare", words="2").startswith(
        "--chunker bare: Unannotated's parameter words is not annotated int, float, str or bool"
    )
    assert refusal("unknown", words="2").startswith(
        "--chunker unknown: WithUnknownName's annotations: name 'Imported' is not defined"
    )
    made = chunkers.make(SPEC, ChunkerChoice("optional", options=(("words", "2"),)))
    assert dict(made.identity.options)["words"] == 2
