"""Inputs of several schemes make up one corpus; a scheme is registered by one line or an entry point."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from engine import sources
from engine.errors import UsageError
from engine.registry import Registry
from engine.sources import (
    Corpus,
    absolute,
    check_inputs,
    find_item,
    item_now,
    open_item,
    prefixes,
    scheme_of,
)
from engine.sources.base import Found, Item, Listing, OpenedItem, Rules, Source, Unreadable

#: What the source of these tests holds, by name.
HELD = {"a/one": b"1", "a/two": b"22", "b/three": b"333"}


class Opened(OpenedItem):
    @property
    def path(self) -> str:
        raise OSError(2, "no file")

    def stream(self) -> BinaryIO:
        return io.BytesIO(HELD[self.item.location])


class HeldListing(Listing):
    def __init__(self, inputs: Sequence[str], rules: Rules) -> None:
        self._inputs, self._rules = inputs, rules

    def __iter__(self) -> Iterator[Found]:
        for name in self._inputs:
            yield from self.more(name)

    def more(self, name: str) -> Iterator[Found]:
        below = name.removeprefix("held://")
        for key, content in HELD.items():
            if key.startswith(below):
                yield Item(f"held://{key}", len(content), "1", 0, key)
        if "broken" in name:
            self.complete = False
            yield Unreadable(name, "torn")


class Held(Source):
    def absolute(self, name: str) -> str:
        return name

    def check(self, inputs: Sequence[str]) -> None:
        for name in inputs:
            if "missing" in name:
                raise UsageError(f"input {name}: nothing there")

    def listing(self, inputs: Sequence[str], rules: Rules) -> HeldListing:
        return HeldListing(inputs, rules)

    def prefix(self, name: str) -> str | None:
        return name if name.endswith("/") else None

    def open(self, item: Item) -> Opened:
        return Opened(item)

    def find(self, uri: str) -> Item | None:
        found = HeldListing([uri], Rules())
        return next((each for each in found if isinstance(each, Item) and each.uri == uri), None)


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    parts = {"file": "engine.sources.local:LocalSource", "held": "tests.sources.test_corpus:Held"}
    monkeypatch.setattr(sources, "REGISTRY", Registry("sources", parts))
    sources.source_for.cache_clear()
    yield
    sources.source_for.cache_clear()


def uris(corpus: Corpus) -> list[str]:
    return [found.uri for found in corpus]


def test_the_scheme_of_a_name_is_what_stands_before_its_slashes() -> None:
    names = ["/a/b", "a://b", "S3://x", "file:///a", "relative/c://d", "1a://b", "c:/d"]
    assert [scheme_of(name) for name in names] == ["file", "a", "s3", "file", "file", "file", "file"]


def test_inputs_of_several_schemes_are_one_corpus(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    corpus = Corpus(["held://a", str(tmp_path), "held://b"])
    assert uris(corpus) == ["held://a/one", "held://a/two", "held://b/three", f"{tmp_path}/x.txt"]
    assert corpus.complete


def test_each_line_of_a_list_belongs_to_the_source_of_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x y.txt").write_text("x")
    (tmp_path / "list").write_text("held://b\nx y.txt\nheld://a/one\nfile://" + f"{tmp_path}/x%20y.txt\n")
    assert uris(Corpus([], "list")) == ["held://b/three", f"{tmp_path}/x y.txt", "held://a/one"]


def test_what_one_source_can_not_list_makes_the_corpus_incomplete(tmp_path: Path) -> None:
    corpus = Corpus([str(tmp_path), "held://broken"])
    assert uris(corpus) == ["held://broken"]
    assert not corpus.complete


def test_an_item_is_opened_by_the_source_of_its_uri() -> None:
    item = next(iter(Corpus(["held://a"])))
    assert isinstance(item, Item)
    assert item_now(item) == find_item(item.uri) == item
    assert find_item("held://a") is None
    with open_item(item) as opened, opened.stream() as stream:
        assert stream.read() == b"1"


def test_inputs_are_checked_and_told_what_lies_below_them_by_their_sources(tmp_path: Path) -> None:
    check_inputs([str(tmp_path), "held://a"], None)
    with pytest.raises(UsageError, match="held://missing: nothing there"):
        check_inputs([str(tmp_path), "held://missing"], None)
    (tmp_path / "x").touch()
    inputs = [str(tmp_path), f"{tmp_path}/x", "held://a/", "held://a/one"]
    assert prefixes(inputs) == (f"{tmp_path}/", "held://a/")


def test_names_are_made_absolute_by_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a b") == f"{tmp_path}/a b"
    assert absolute("file:///x%20y") == "/x y"
    assert absolute("held://a/../b") == "held://a/../b"


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="s4://: no source reads that; give paths, or URLs of file://, held"):
        absolute("s4://bucket")
