"""Copies, boilerplate and pictures that repeat give the same records with `--dedupe` and without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.runs import Corpus, Result, same_vectors

LICENCE = "Everybody may copy this, and nobody is liable for it. " * 20

#: Tokens of a chunk.
SIZE = "64"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Ten texts that begin alike, each twice; a picture three times, and another."""
    corpus = Corpus(tmp_path)
    for number in range(10):
        path = corpus.write(
            f"{number}.txt", f"{LICENCE}\n\nNote {number}. " + f"This is note {number}. " * 40
        )
        shutil.copy(path, corpus.files / f"copy of {number}.txt")
    Image.new("RGB", (40, 30), "red").save(corpus.files / "red.png")
    for number in range(2):
        shutil.copy(corpus.files / "red.png", corpus.files / f"red again {number}.png")
    Image.new("RGB", (40, 30), "blue").save(corpus.files / "blue.png")
    return corpus


def chunks(result: Result) -> dict[str, int]:
    assert result.code == 0, result.err
    found: dict[str, int] = result.summary["chunks"]
    return found


def test_records_and_vectors_are_the_same_with_dedupe_and_without(corpus: Corpus) -> None:
    once = chunks(corpus.run("--chunk-size", SIZE))
    records = corpus.records()
    shutil.rmtree(corpus.run_dir)
    shutil.rmtree(corpus.root / "db")
    each = chunks(corpus.run("--chunk-size", SIZE, "--no-dedupe"))
    assert same_vectors(records, corpus.records())
    assert each.pop("deduplicated") == 0
    saved = once.pop("deduplicated")
    assert once == each
    texts = {str(record["content_hash"]) for record in records.values()}
    # No parser has more than one file at work, so that each content is embedded once.
    assert saved == len(records) - len(texts)
    assert saved > len(records) / 2
