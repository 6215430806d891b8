from __future__ import annotations

import hashlib
from pathlib import Path

import lancedb
import pytest

from adapters.lancedb import adapter as module
from adapters.lancedb import presence, table
from adapters.lancedb.presence import Presence
from tests.adapters.contract import adapters_closed, stored, write
from tests.records import make_records, make_schema


def names(n: int, start: int = 0) -> list[str]:
    return [hashlib.md5(str(number).encode()).hexdigest() for number in range(start, start + n)]


def test_what_was_added_is_never_denied_and_little_else_is_taken_for_it() -> None:
    filled = Presence(50_000)
    there = [*names(50_000), "", "theirs", "ü" * 40]
    for start in range(0, len(there), 999):
        filled.add(there[start : start + 999])
    assert filled.may_hold(there) == there
    assert len(filled.may_hold(names(50_000, start=50_000))) <= 5
    # Ids that are alike, as no digests are.
    assert len(filled.may_hold([f"{number:032x}" for number in range(50_000)])) <= 5
    assert filled.may_hold([]) == []


def test_a_crowded_filter_says_so_unless_there_is_no_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Presence(0)
    told = []
    for start in (0, 20_000, 40_000):
        small.add(names(20_000, start))
        told.append(small.crowded)
    monkeypatch.setattr(presence, "MOST_BITS", presence.LEAST_BITS)
    assert [*told, small.crowded] == [False, False, True, False]


def test_only_ids_that_may_be_there_are_asked_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    conditions = table.id_conditions

    def watched(ids: list[str]) -> object:
        asked.extend(ids)
        return conditions(ids)

    monkeypatch.setattr(module, "id_conditions", watched)
    first, second, third = (make_records(300, seed=seed) for seed in range(3))
    with adapters_closed(f"lancedb://{tmp_path}/db") as adapter:
        adapter.ensure_schema(make_schema())
        write(adapter, first)
        write(adapter, [*first[:20], *second], maybe_present=True)
        assert asked == [record.id for record in first[:20]]
        write(adapter, second[:30], maybe_present=True)
        assert asked[20:] == [record.id for record in second[:30]]
        # What somebody else has written meanwhile is found as well.
        chunks = lancedb.connect(tmp_path / "db").open_table("chunks")
        chunks.add(chunks.search().limit(1).to_arrow().set_column(0, "id", [[third[0].id]]))
        write(adapter, third, maybe_present=True)
        assert asked[50:] == [third[0].id]
        assert len(stored(adapter)) == 900
