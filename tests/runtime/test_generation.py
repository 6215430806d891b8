"""At its start a run notices an index that isn't the one that it filled, or lacks what it wrote there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.options import parse
from engine.errors import UsageError
from engine.runtime.generation import Generation
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.runtime.process.messages import Opened
from tests.items import item

URL = "memory://generation"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of an index `mine`, with ten acknowledged records of two files."""
    ledger = Ledger(tmp_path)
    ledger.set("adapter", URL)
    ledger.set("identity", "mine")
    for number in range(2):
        row = ledger.items.add(item(f"/{number}"), 1)
        ids = b"".join(bytes([number, i]) * 8 for i in range(5))
        ledger.segments.acknowledge([Acknowledged(row.id, 0, 0, -1, None, "", ids, True)])
    yield ledger
    ledger.close()


def checked(run_dir: Path, ledger: Ledger, identity: str | None, count: int, *options: str) -> list[str]:
    """What is said to the user; raises where the run is refused."""
    said: list[str] = []
    config = parse([".", "--adapter", URL, "--run-dir", str(run_dir), "--text-model", "stand-in:8", *options])
    Generation(config, said.append).check(ledger, Opened(identity, None, None, count, False))
    return said


@pytest.mark.parametrize(
    ("identity", "count", "why"),
    [
        (None, 0, "is gone"),
        ("other", 10, "was replaced"),
        ("mine", 0, "holds nothing"),
        ("mine", 9, "holds 9 records, fewer than the 10 that were acknowledged"),
    ],
)
def test_an_index_that_lacks_what_was_written_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, ledger: Ledger, identity: str | None, count: int, why: str
) -> None:
    with pytest.raises(UsageError) as refused:
        checked(tmp_path, ledger, identity, count)
    assert str(refused.value) == (
        f"--adapter {URL}: the index that this run directory filled {why}; repair it with:"
        f" python -m engine.verify --run-dir {tmp_path} --adapter {URL} --repair"
        " (or index anew with --full, or another --run-dir)"
    )
    assert checked(tmp_path, ledger, identity, count, "--full") == []


@pytest.mark.parametrize("count", [10, 11])
def test_an_index_that_holds_enough_is_taken(tmp_path: Path, ledger: Ledger, count: int) -> None:
    assert checked(tmp_path, ledger, "mine", count) == []


def test_records_that_are_to_be_deleted_need_not_be_there(tmp_path: Path, ledger: Ledger) -> None:
    ledger.leftovers.remove(1)
    assert checked(tmp_path, ledger, "mine", 5) == []
    with pytest.raises(UsageError, match="holds 4 records, fewer than the 5"):
        checked(tmp_path, ledger, "mine", 4)


def test_a_fresh_directory_over_a_filled_index_is_told_how_a_lost_ledger_comes_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    (note,) = checked(tmp_path, ledger, "any", 1234)
    assert note.startswith("the index holds 1,234 records already")
    assert note.endswith(f"engine.verify --run-dir {tmp_path} --adapter {URL} --adopt")
    assert checked(tmp_path, ledger, "any", 0) == []
    assert checked(tmp_path, ledger, None, 0) == []
    ledger.close()


def test_a_kind_is_known_once_its_model_is(tmp_path: Path) -> None:
    options = ("--text-model", "stand-in:8", "--image-model", "stand-in:4")
    config = parse([".", "--adapter", URL, "--run-dir", str(tmp_path), *options])
    generation = Generation(config, lambda line: None)
    assert generation.known() == {"text": generation.name("text")}
    image = generation.image()
    assert image is not None
    assert generation.known() == {"text": generation.name("text"), "image": image.digest}
