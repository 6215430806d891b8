from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.api import hits
from engine.api.hits import absolute_prefix, contents
from engine.records import Hit


def rows(*sources: str) -> Iterator[dict[str, object]]:
    for source in sources:
        yield {"source": source, "media_type": "text/plain" if source.endswith("t") else "image/png"}


def test_hits_are_texts_and_then_pictures() -> None:
    text, image = Hit("1", "/a", "text", None, 0.1, "x"), Hit("2", "/b", "image", None, 0.9, None)
    found = engine.Hits("x", (text,), (image,))
    assert list(found) == [text, image]
    assert len(found) == 2
    assert not engine.Hits("x")


def test_an_index_is_told_by_types_and_folders() -> None:
    found = contents(rows("/data/a/1.txt", "/data/a/2.txt", "/data/b/3.png", "s3://bucket/x/4.txt"))
    assert found.media_types == {"text/plain": 3, "image/png": 1}
    assert found.folders == {"/data/a/": 2, "/data/b/": 1, "s3://bucket/x/": 1}
    assert str(found) == (
        "the index holds 4 records: 3 text/plain, 1 image/png; their sources begin with"
        " /data/a/, /data/b/, s3://bucket/x/"
    )


def test_many_folders_give_way_to_those_that_they_are_in() -> None:
    sources = [f"/data/{'ab'[number % 2]}/{number}/n.txt" for number in range(2000)]
    assert contents(rows(*sources)).folders == {"/data/a/": 1000, "/data/b/": 1000}
    roots = [f"/{number}/n.txt" for number in range(9)] + [f"memory://{number}" for number in range(9)]
    assert contents(rows(*roots)).folders == {"/": 9, "memory://": 9}


def test_of_a_large_index_only_the_first_records_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hits, "LOOKED_AT", 3)
    found = contents(rows(*["/a/1.txt"] * 9))
    assert (found.records, found.complete) == (3, False)
    assert "of the first 3 records" in str(found)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("docs", "{here}/docs"),
        ("docs/", "{here}/docs/"),
        ("./docs/a", "{here}/docs/a"),
        (".", "{here}/"),
        ("/data/", "/data/"),
        ("/", "/"),
        ("a\udcff", "{here}/a%FF"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("memory://a", "memory://a"),
        ("file:///data/a%20b/", "/data/a b/"),
        ("", ""),
    ],
)
def test_a_relative_prefix_is_made_absolute(
    given: str, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_prefix(given) == whole.format(here=tmp_path)
