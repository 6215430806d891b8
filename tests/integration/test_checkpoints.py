"""A file that a killed run left in its middle goes on at what was acknowledged, not at its start."""

from __future__ import annotations

import random
import sqlite3
from copy import copy
from pathlib import Path

import pytest

from engine.records import ID_HEX_DIGITS
from tests.integration.runs import Corpus, same_vectors, wait_until
from tests.parsers.pdf_writer import Page, pdf

#: Tokens a second: a few seconds for either file.
PACE = "stand-in:16@40000"

OPTIONS = ("--quiet", "--chunk-size", "64")


def _words(seed: int, count: int) -> str:
    chosen = random.Random(seed)
    return " ".join("".join(chosen.choices("abcdefgh", k=chosen.randint(2, 8))) for _ in range(count))


def _book(pages: int) -> bytes:
    return pdf(
        [Page().lines(40, 740, [_words(100 * page + i, 9) for i in range(50)], 8) for page in range(pages)]
    )


def _text(sections: int) -> bytes:
    return "".join(f"{number}. {_words(number, 40)}\n\n" for number in range(1150 * sections)).encode()


def _acknowledged(corpus: Corpus) -> int:
    """Records that the ledger knows to be written."""
    if not (corpus.run_dir / "status.json").exists():  # there is no ledger yet
        return 0
    with sqlite3.connect(f"file:{corpus.run_dir}/ledger.sqlite?mode=ro", uri=True) as ledger:
        (size,) = ledger.execute("SELECT COALESCE(SUM(LENGTH(ids)), 0) FROM segments").fetchone()
    ledger.close()
    return int(size) // (ID_HEX_DIGITS // 2)


@pytest.mark.parametrize(("name", "data"), [("book.pdf", _book(500)), ("log.txt", _text(6))])
def test_a_killed_run_goes_on_in_the_middle_of_a_file(tmp_path: Path, name: str, data: bytes) -> None:
    corpus = Corpus(tmp_path)
    (corpus.files / name).write_bytes(data)
    with corpus.started(*OPTIONS, text_model=PACE) as process:
        wait_until(lambda: _acknowledged(corpus) > 500 or process.poll() is not None)
        assert process.poll() is None, "it ended before it could be killed"
    before = _acknowledged(corpus)
    resumed = corpus.run(*OPTIONS)
    assert resumed.code == 0, resumed.err
    records = corpus.records()
    assert 500 < before < len(records)
    assert resumed.summary["chunks"]["text"] == len(records) - before
    other = copy(corpus)
    other.root = tmp_path / "undisturbed"
    assert other.run(*OPTIONS).summary["chunks"]["text"] == len(records)
    assert same_vectors(records, other.records())
