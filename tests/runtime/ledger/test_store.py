"""The ledger keeps what was committed, through any death, and says how far each file has come."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.runtime.ledger import store as module
from engine.runtime.ledger.audit import Booked
from engine.runtime.ledger.items import FailureRow, Items
from engine.runtime.ledger.segments import ID_BYTES, Acknowledged, Progress, Segments
from engine.runtime.ledger.store import Ledger
from engine.runtime.ledger.tables import TABLES
from engine.sources.base import Item
from tests.items import item

#: In a process of its own: add a file and commit, add another and don't, then die in the way given.
WRITER = """
import os, signal, sys
from pathlib import Path
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from tests.items import item
ledger = Ledger(Path(sys.argv[1]))
for run in range(3):
    file = ledger.items.add(item(f"/committed {run}"), run)
    ledger.segments.acknowledge([Acknowledged(file.id, 0, 0, -1, None, "", bytes(16), True)])
    ledger.commit()
ledger.items.add(item("/not committed"), 1)
ledger.items.finish(1, "indexed")
ledger.set("run", "77")
{death}
"""

DEATHS = {"exit": "os._exit(9)", "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def ids(*names: str) -> bytes:
    return b"".join(name.encode().ljust(ID_BYTES, b"_")[:ID_BYTES] for name in names)


def segment(
    ordinal: int, after: int, names: tuple[str, ...] = ("chunk",), version: int = 0, complete: bool = True
) -> Acknowledged:
    return Acknowledged(1, version, ordinal, after, None, f"after {ordinal}", ids(*names), complete)


def stale(ledger: Ledger, version: int, slice_size: int = 100) -> list[list[str]]:
    return list(ledger.leftovers.stale_ids(1, version, slice_size))


# Durability


def test_everything_is_there_when_the_ledger_is_opened_again(tmp_path: Path) -> None:
    first = Ledger(tmp_path)
    row = first.items.add(item("/corpus/a", 5, -7), first.next_run())
    first.items.start_attempt(row.id)
    first.items.describe(row.id, "text", "text/plain", "plan", "hash")
    first.segments.acknowledge([segment(0, -1, ("one", "two"))])
    first.items.fail(FailureRow(row.id, 3, 4, "parse", "damaged-page", "no font"))
    first.items.finish(row.id, "partial")
    kept = first.items.get(row.id)
    first.close()
    second = Ledger(tmp_path)
    assert second.items.find("/corpus/a") == kept
    assert (kept.state, kept.attempts, kept.mtime_ns, kept.kind) == ("partial", 1, -7, "text")
    assert second.segments.progress(row.id, 0).checkpoint == "after 0"
    assert second.audit.totals() == {"files": 1, "records": 2}
    assert second.next_run() == 2
    assert list(second.items.failures()) == [
        {
            "source": "/corpus/a",
            "document": None,
            "page": 4,
            "stage": "parse",
            "error_type": "damaged-page",
            "message": "no font",
            "attempts": 1,
        }
    ]
    second.close()


@pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
def test_a_process_that_dies_loses_what_it_had_not_committed_and_nothing_else(
    tmp_path: Path, death: str
) -> None:
    script = WRITER.replace("{death}", death)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode in (9, -signal.SIGKILL)
    ledger = Ledger(tmp_path)
    assert [ledger.items.find(f"/committed {run}") is not None for run in range(3)] == [True] * 3
    assert ledger.items.find("/not committed") is None
    assert ledger.items.get(1).state == "pending"
    assert ledger.get("run") is None
    assert ledger.audit.totals() == {"files": 3, "records": 3}
    ledger.close()


def test_a_reader_sees_committed_rows_while_the_ledger_is_open(ledger: Ledger, tmp_path: Path) -> None:
    ledger.items.add(item("/a"), 1)
    reader = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert reader.execute("SELECT count(*) FROM items").fetchone() == (0,)
    ledger.commit()
    assert reader.execute("SELECT count(*) FROM items").fetchone() == (1,)
    reader.close()


def test_closing_twice_is_no_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.close()
    ledger.close()


def test_a_network_file_system_gets_no_write_ahead_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_on_network", lambda folder: True)
    ledger = Ledger(tmp_path)
    ledger.items.add(item("/a"), 1)
    ledger.commit()
    assert not (tmp_path / "ledger.sqlite-wal").exists()
    ledger.close()


# What it refuses


def test_a_ledger_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.set("version", "99")
    ledger.close()
    with pytest.raises(UsageError, match="ledger version 99, this engine reads 3; name another --run-dir"):
        Ledger(tmp_path)
    with pytest.raises(UsageError, match="version 99"):
        Ledger(tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    garbage = b"not a database, but long enough to be told apart from one\n" * 40
    (tmp_path / "ledger.sqlite").write_bytes(garbage)
    with pytest.raises(UsageError, match=r"ledger\.sqlite: not a usable ledger .*; name another --run-dir"):
        Ledger(tmp_path)
    assert (tmp_path / "ledger.sqlite").read_bytes() == garbage


def test_a_ledger_that_was_never_finished_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    ledger = Ledger(tmp_path)
    assert ledger.audit.totals() == {"files": 0, "records": 0}
    ledger.close()


# Names


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_path_comes_back_as_the_bytes_that_it_was(name: bytes) -> None:
    path = "/corpus/" + os.fsdecode(name)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.executescript(TABLES)
        items = Items(db, lambda generation: None)
        row = items.add(Item("/source", 1, "1", 1, path), 1)
        assert row.location == path
        assert os.fsencode(items.get(row.id).location) == b"/corpus/" + name


def test_a_file_is_known_by_its_source_and_its_number(ledger: Ledger) -> None:
    row = ledger.items.add(item("/a"), 1)
    assert ledger.items.find("/b") is None
    assert ledger.items.get(row.id) == row
    with pytest.raises(KeyError):
        ledger.items.get(row.id + 1)


def test_a_new_version_forgets_what_was_known_of_the_old_one_but_not_its_records(ledger: Ledger) -> None:
    row = ledger.items.add(item("/a"), 1)
    ledger.items.start_attempt(row.id)
    ledger.items.describe(row.id, "text", "text/plain", "plan", "hash")
    ledger.segments.acknowledge([segment(0, -1)])
    ledger.items.fail(FailureRow(row.id, -1, None, "parse", "damaged", "torn"))
    ledger.items.start_revision(row.id, item("/", 9, 9))
    now = ledger.items.get(row.id)
    assert (now.revision, now.size, now.attempts, now.kind, now.content_hash) == (1, 9, 0, None, None)
    assert (list(ledger.items.failures()), ledger.segments.has_records(row.id)) == ([], True)
    assert ledger.segments.progress(row.id, 1).chunks == 0


# Progress


def test_a_chain_without_holes_goes_on_after_its_last_segment(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(0, -1), segment(1, 0, ("b", "c")), segment(7, 1)])
    progress = ledger.segments.progress(1, 0)
    assert (progress.last, progress.checkpoint, progress.done, progress.chunks) == (7, "after 7", (), 4)


def test_after_a_hole_segments_are_done_one_by_one(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(3, 2), segment(0, -1), segment(4, 3)])
    progress = ledger.segments.progress(1, 0)
    assert (progress.last, progress.checkpoint, progress.done) == (0, "after 0", (3, 4))


def test_a_file_whose_first_segment_is_missing_starts_anew(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(1, 0)])
    progress = ledger.segments.progress(1, 0)
    assert (progress.last, progress.checkpoint, progress.done) == (-1, None, (1,))


def test_a_segment_with_refused_records_is_to_be_made_again_and_ends_the_chain(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(0, -1), segment(1, 0, ("some",), complete=False), segment(2, 1)])
    progress = ledger.segments.progress(1, 0)
    assert (progress.last, progress.done, progress.chunks) == (0, (2,), 3)


def test_a_page_that_failed_is_a_hole_until_it_is_acknowledged(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(0, -1), segment(2, 1)])  # 1 failed
    assert ledger.segments.progress(1, 0).last == 0
    ledger.segments.acknowledge([segment(1, 0)])
    assert ledger.segments.progress(1, 0) == Progress(2, "after 2", (), 3)


def test_a_segment_that_is_acknowledged_again_counts_once(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(0, -1, ("a",), complete=False)])
    ledger.segments.acknowledge([segment(0, -1, ("a", "b"))])
    assert ledger.segments.progress(1, 0).chunks == 2
    assert ledger.audit.totals() == {"files": 1, "records": 2}


def test_versions_and_files_do_not_mix(ledger: Ledger) -> None:
    ledger.segments.acknowledge([segment(0, -1), segment(0, -1, version=1), segment(1, 0, version=1)])
    assert (
        ledger.segments.progress(1, 0).last,
        ledger.segments.progress(1, 1).last,
        ledger.segments.progress(2, 0).last,
    ) == (0, 1, -1)


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_what_is_missing_is_always_found_by_going_on_from_the_checkpoint(
    acknowledged: set[int], refused: set[int]
) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        segments = Segments(db)
        segments.acknowledge(
            [segment(n, n - 1, complete=n not in refused) for n in sorted(acknowledged, reverse=True)]
        )
        progress = segments.progress(1, 0)
    complete = acknowledged - refused
    made_again = set(range(progress.last + 1, 10)) - set(progress.done)
    assert made_again == set(range(10)) - complete
    assert progress.last + 1 in set(range(11)) - complete


# What is to be deleted


def replaced(ledger: Ledger, *versions: tuple[str, ...]) -> None:
    """One file with these ids in its versions, the last of them acknowledged whole."""
    row = ledger.items.add(item("/a"), 1)
    for number, names in enumerate(versions):
        if number:
            ledger.items.start_revision(row.id, item("/", 1, 1 + number))
        if names:
            ledger.segments.acknowledge([segment(0, -1, names, number)])
    ledger.leftovers.replace(row.id)


def test_ids_that_the_newest_version_shares_are_not_stale(ledger: Ledger) -> None:
    replaced(ledger, ("a", "b", "c"), ("b", "d"), ("c", "e"))
    names = {name for part in stale(ledger, 2) for name in part}
    assert {bytes.fromhex(name)[:1] for name in names} == {b"a", b"b", b"d"}


def test_stale_ids_come_in_slices_that_are_no_larger_than_asked(ledger: Ledger) -> None:
    replaced(ledger, tuple(f"old {i}" for i in range(25)), ("new",))
    parts = stale(ledger, 1, 10)
    assert [len(part) for part in parts] == [10, 10, 5]
    assert len({name for part in parts for name in part}) == 25


def test_stale_ids_stream_while_segments_of_other_files_are_committed(ledger: Ledger) -> None:
    replaced(ledger, tuple(f"old {i}" for i in range(25)), ("new",))
    found: list[str] = []
    for number, part in enumerate(ledger.leftovers.stale_ids(1, 1, 10)):
        found += part
        ledger.segments.acknowledge([Acknowledged(2, 0, number, -1, None, "", ids("x"), True)])
        ledger.commit()
    assert len(set(found)) == len(found) == 25


def test_what_a_later_version_took_over_is_not_stale_for_an_earlier_one(ledger: Ledger) -> None:
    replaced(ledger, ("a", "b"), ("c",))
    ledger.items.start_revision(1, item("/", 1, 9))
    ledger.segments.acknowledge([segment(0, -1, ("a",), 2)])
    assert stale(ledger, 1) == [[ids("b").hex()]]


def test_a_version_that_began_later_does_not_widen_what_is_deleted(ledger: Ledger) -> None:
    replaced(ledger, ("a",), ("b",))
    ledger.items.start_revision(1, item("/", 1, 9))
    row = ledger.leftovers.next_replaced()
    assert row is not None
    assert row.revision == 1
    ledger.leftovers.drop_older(row)
    assert ledger.leftovers.next_replaced() is None
    assert ledger.audit.totals()["records"] == 1


def test_a_file_without_older_records_is_not_on_the_list(ledger: Ledger) -> None:
    replaced(ledger, ("a",))
    assert ledger.leftovers.next_replaced() is None


def test_a_removed_file_is_forgotten_at_once_only_when_it_has_no_records(ledger: Ledger) -> None:
    ledger.items.add(item("/bare"), 1)
    ledger.leftovers.remove(1)
    assert ledger.items.find("/bare") is None
    row = ledger.items.add(item("/full"), 1)
    ledger.segments.acknowledge([Acknowledged(row.id, 0, 0, -1, None, "", ids("a"), True)])
    ledger.leftovers.remove(row.id)
    assert ledger.items.get(row.id).state == "removed"
    waiting = ledger.leftovers.next_replaced()
    assert waiting is not None
    ledger.leftovers.drop_older(waiting)
    assert ledger.items.find("/full") is None
    assert not ledger.segments.has_records()


def test_a_file_that_is_forgotten_leaves_no_mark_of_what_it_replaced(ledger: Ledger) -> None:
    replaced(ledger, ("a",), ())
    earlier = ledger.leftovers.next_replaced()
    assert earlier is not None
    ledger.leftovers.replace_all(1)  # a newer version comes through while the database deletes
    ledger.leftovers.drop_older(earlier)
    ledger.leftovers.remove(1)
    assert ledger.items.find("/a") is None
    assert ledger.leftovers.next_replaced() is None


# Failures and invocations


def test_the_newest_failure_of_a_piece_stays_and_files_unseen_can_be_left_out(ledger: Ledger) -> None:
    old, new = (ledger.items.add(item(name), 1) for name in ("/old", "/new"))
    for message in ("first", "second"):
        ledger.items.fail(FailureRow(old.id, -1, None, "parse", "damaged", message))
    ledger.items.fail(FailureRow(new.id, -1, None, "parse", "damaged", "third"))
    ledger.items.mark_seen(new.id, 2)
    assert [line["message"] for line in ledger.items.failures()] == ["second", "third"]
    assert [line["message"] for line in ledger.items.failures(2)] == ["third"]
    ledger.items.clear_failures(new.id)
    assert [line["message"] for line in ledger.items.failures(2)] == []


def test_unseen_files_come_one_by_one(ledger: Ledger) -> None:
    for number in range(4):
        ledger.items.add(item(f"/{number}"), 1)
    ledger.items.mark_seen(2, 2)
    found, after = [], 0
    while row := ledger.items.unseen(2, after):
        after = row.id
        found.append(row.id)
    assert found == [1, 3, 4]


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ({"/": "ext4"}, False),
        ({"/": "ext4", "/data": "nfs4"}, True),
        ({"/": "ext4", "/data": "nfs4", "/data/local": "xfs"}, False),
        ({"/": "ext4", "/dat": "nfs4"}, False),
        ({"/": "lustre"}, True),
        ({}, False),
    ],
)
def test_the_nearest_mount_tells_whether_a_folder_is_shared(
    monkeypatch: pytest.MonkeyPatch, mounts: dict[str, str], expected: bool
) -> None:
    class Partition:
        def __init__(self, mountpoint: str, fstype: str) -> None:
            self.mountpoint, self.fstype = mountpoint, fstype

    monkeypatch.setattr(
        psutil, "disk_partitions", lambda **_: [Partition(*mount) for mount in mounts.items()]
    )
    assert module._on_network(Path("/data/local/run")) is expected


def test_the_lines_of_failures_are_json(ledger: Ledger) -> None:
    row = ledger.items.add(item("/a"), 1)
    ledger.items.fail(FailureRow(row.id, -1, None, "parse", "damaged", "broken \udce9 and é"))
    (line,) = ledger.items.failures()
    assert json.loads(json.dumps(line, ensure_ascii=False).encode())["message"] == "broken \\udce9 and é"


def test_beginning_again_forgets_records_and_keeps_files_as_never_indexed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    file = ledger.items.add(item("/a", 3, 4), 1).id
    ledger.items.start_attempt(file)
    ledger.items.describe(file, "text", "text/plain", "g", "h")
    ledger.segments.acknowledge([Acknowledged(file, 0, 0, -1, None, "", bytes(32), True)])
    ledger.items.finish(file, "indexed")
    ledger.begin_again()
    row = ledger.items.get(file)
    assert (row.state, row.generation, row.attempts, row.revision, row.size) == ("pending", "", 0, 0, 3)
    assert not ledger.segments.has_records()
    assert ledger.leftovers.next_replaced() is None
    ledger.close()


def test_records_that_two_versions_share_are_in_the_database_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first, second = (ledger.items.add(item(name, 3, 4), 1).id for name in ("/a", "/b"))
    one, two, three = (bytes([i]) * 16 for i in (1, 2, 3))
    ledger.segments.acknowledge(
        [
            Acknowledged(first, 0, 0, -1, None, "", one + two, True),
            Acknowledged(first, 1, 0, -1, None, "", two + three, False),
            Acknowledged(second, 0, 0, -1, None, "", bytes(16), True),
        ]
    )
    assert ledger.audit.totals()["records"] == 5
    assert ledger.audit.distinct_records() == 4
    ledger.close()


# Comparison with the database


def test_segments_of_replaced_versions_are_not_wanted(ledger: Ledger) -> None:
    replaced(ledger, ("a", "b"), ("b", "c", "d"))
    ledger.items.start_revision(1, item("/", 1, 9))
    ledger.segments.acknowledge([segment(0, -1, ("e",), 2)])
    held = [(each.ids[:1], len(each.ids) // ID_BYTES, each.wanted) for each in ledger.audit.held()]
    assert held == [(b"a", 2, False), (b"b", 3, True), (b"e", 1, True)]


def test_what_must_be_there_at_least_is_counted_without_what_is_to_be_deleted(ledger: Ledger) -> None:
    assert ledger.audit.booked() == Booked(0, 0)
    replaced(ledger, ("a", "b"), ("b", "c", "d"))
    ledger.items.start_revision(1, item("/", 1, 9))
    ledger.segments.acknowledge([segment(0, -1, ("c",), 2), segment(1, 0, ("e",), 2)])
    other = ledger.items.add(item("/b"), 1)
    ledger.segments.acknowledge([Acknowledged(other.id, 0, 0, -1, None, "", ids("x", "y"), True)])
    assert ledger.audit.booked() == Booked(9, 5)
    ledger.leftovers.remove(other.id)
    assert ledger.audit.booked() == Booked(9, 3)


def test_a_segment_that_lacks_a_record_is_made_again_and_its_rest_stays(ledger: Ledger) -> None:
    row = ledger.items.add(item("/a"), 1)
    ledger.segments.acknowledge(
        [segment(0, -1, ("a", "b")), segment(1, 0, ("c",)), segment(2, 1, ("d", "e"))]
    )
    ledger.items.finish(row.id, "indexed")
    asked: list[list[bytes]] = []

    def gone(some: list[bytes]) -> set[bytes]:
        asked.append(some)
        return {ids("b"), ids("c")} & set(some)

    ledger.audit.disown(row.id, gone)
    assert [len(some) for some in asked] == [2, 1, 2]
    progress = ledger.segments.progress(row.id, 0)
    assert (progress.last, progress.done, progress.chunks) == (-1, (2,), 3)
    now = ledger.items.get(row.id)
    assert (now.state, now.attempts) == ("pending", 1)
    ledger.audit.disown(row.id, set)
    assert not ledger.segments.has_records(row.id)


def test_generations_outlive_the_files_that_were_made_with_them(ledger: Ledger) -> None:
    row = ledger.items.add(item("/a"), 1)
    ledger.items.describe(row.id, "text", "text/plain", "", "")
    assert ledger.generations() == []
    for generation in ("one d1", "two d1", "one d1"):
        ledger.items.describe(row.id, "text", "text/plain", generation, "hash")
        ledger.items.start_revision(row.id, item("/"))
    assert sorted(ledger.generations()) == ["one d1", "two d1"]


def test_the_page_of_a_record_is_that_of_its_segment(ledger: Ledger) -> None:
    ledger.segments.acknowledge(
        [Acknowledged(1, 0, 5, -1, 9, "", ids("a", "b"), True), segment(6, 5, ("c",))]
    )
    assert (
        ledger.audit.page_of(1, ids("b")),
        ledger.audit.page_of(1, ids("c")),
        ledger.audit.page_of(1, ids("z")),
    ) == (
        9,
        None,
        None,
    )


def test_rolling_back_forgets_what_was_not_committed(ledger: Ledger) -> None:
    ledger.items.add(item("/a"), 1)
    ledger.commit()
    ledger.items.add(item("/b"), 1)
    ledger.roll_back()
    assert (ledger.items.find("/a") is not None, ledger.items.find("/b")) == (True, None)


def test_a_file_that_was_never_seen_is_told_as_the_ledger_will_tell_it(ledger: Ledger) -> None:
    added = ledger.items.add(Item("/a", 5, str(6), 6, "/a\udcff"), 7)
    assert added == ledger.items.find("/a") == ledger.items.get(added.id)


def test_a_generation_is_remembered_though_what_first_named_it_was_forgotten(ledger: Ledger) -> None:
    ledger.commit()
    ledger.adopt_plan("text", "chunker model")
    ledger.roll_back()
    assert ledger.generations() == []
    ledger.adopt_plan("text", "chunker model")
    ledger.commit()
    assert ledger.generations() == ["chunker model"]
