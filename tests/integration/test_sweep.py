"""Records that a killed run had written and not booked, when their file is another one by the next run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import adapters
from engine.runtime.ledger.segments import unpacked
from engine.runtime.ledger.store import Ledger
from tests.integration.runs import Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE, undisturbed

#: Slow enough that a run can be stopped between the first segment's way to the model and its vectors.
SLOW_MODEL = "stand-in:16@500"

NAMES = ("a.txt", "b.txt", "c.txt")


def in_flight(corpus: Corpus) -> int:
    """Bytes that the run has seen on their way to the database."""
    path = corpus.run_dir / "status.json"
    return int(json.loads(path.read_text())["peak_in_flight_bytes"]) if path.exists() else 0


def records_in(corpus: Corpus) -> int:
    with closing(adapters.connect(corpus.url)) as adapter:
        return adapter.count()


def killed_before_it_booked(corpus: Corpus) -> set[str]:
    """Run until the database has acknowledged records of which the ledger will never hear; their ids."""
    with corpus.started("--workers", "1", text_model=SLOW_MODEL) as process:
        wait_until(lambda: in_flight(corpus) > 0)
        os.kill(process.pid, signal.SIGSTOP)
        # Its other processes go on with what they have been allowed.
        before = records_in(corpus)
        wait_until(lambda: records_in(corpus) > before)
    with closing(Ledger(corpus.run_dir)) as ledger:
        booked = {one.hex() for held in ledger.audit.held() for one in unpacked(held.ids)}
    return corpus.records().keys() - booked


def edited(path: Path) -> None:
    path.write_text(f"quite another text, and a shorter one: {PROSE}", encoding="utf-8")


def emptied(path: Path) -> None:
    path.write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (edited, ()),
        (emptied, ()),
        (Path.unlink, ("--prune",)),
        (lambda path: None, ("--chunk-size", "64")),
    ],
    ids=["edited", "emptied", "removed", "cut otherwise"],
)
def test_what_was_written_and_not_booked_goes_when_its_file_is_another(
    tmp_path: Path, change: Callable[[Path], None], options: tuple[str, ...]
) -> None:
    corpus = Corpus(tmp_path)
    for name in NAMES:
        corpus.write(name, "".join(f"{name}, {i}: {PROSE}" for i in range(60)))
    strays = killed_before_it_booked(corpus)
    assert strays
    for name in NAMES:
        change(corpus.files / name)
    corpus.write("d.txt", PROSE)
    result = corpus.run(*options)
    assert result.code == 0, result.err
    records = corpus.records()
    assert not strays & records.keys()
    assert len(records) == result.summary["totals"]["records"]
    assert result.summary["chunks"]["deleted"] >= len(strays)
    assert same_vectors(records, undisturbed(corpus, *options))
    assert corpus.run(*options).summary["chunks"]["deleted"] == 0


def test_records_of_another_run_directory_with_other_chunks_are_left_alone(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for name in NAMES:
        corpus.write(name, "".join(f"{name}, {i}: {PROSE}" for i in range(60)))
    strays = killed_before_it_booked(corpus)
    other = ("--run-dir", str(tmp_path / "other"), "--chunk-size", "64")
    assert corpus.run(*other).code == 0
    theirs = corpus.records().keys() - strays
    for name in NAMES:
        edited(corpus.files / name)
    assert corpus.run().code == 0
    records = corpus.records().keys()
    assert theirs <= records
    assert not strays & records
    assert corpus.run(*other).code == 0
    assert not theirs & corpus.records().keys()
