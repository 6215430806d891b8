"""Whatever is done to a ledger, wherever it is cut off: it holds what its last commit held, or says so."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.errors import UsageError
from engine.runtime.ledger import store as module
from engine.runtime.ledger.items import FailureRow, ItemRow
from engine.runtime.ledger.leftovers import Doubt
from engine.runtime.ledger.segments import ID_BYTES, Acknowledged
from engine.runtime.ledger.store import Ledger
from tests.items import item

SOURCES = ("/a", "/b")

#: Segments of a file, and records of one letter: enough that a transaction doesn't fit SQLite's cache.
SEGMENTS, RECORDS = 4, 60

sources = st.sampled_from(SOURCES)
fates = st.dictionaries(
    st.integers(0, SEGMENTS - 1),
    st.tuples(st.sets(st.sampled_from("xy")), st.booleans(), st.booleans()),
    min_size=1,
)


def packed(source: str, ordinal: int, letters: set[str]) -> bytes:
    """Ids of a segment's records; equal letters give equal ids in every version."""
    names = (f"{source}{ordinal}{letter}{n}" for letter in sorted(letters) for n in range(RECORDS))
    return b"".join(name.encode().ljust(ID_BYTES, b"_") for name in names)


def unpacked(ids: bytes) -> set[str]:
    return {ids[i : i + ID_BYTES].hex() for i in range(0, len(ids), ID_BYTES)}


def opened(place: Path) -> Ledger:
    """A ledger that doesn't wait for the disk, because no power is cut here.

    Its cache is small, so that pages of an open transaction reach the file, as those of a large one do.
    """
    ledger = Ledger(place)
    for statement in ("COMMIT", "PRAGMA synchronous = OFF", "PRAGMA cache_size = 1", "BEGIN"):
        ledger._db.execute(statement)
    return ledger


@dataclass
class File:
    """What the ledger should know of a file: its segments by version and ordinal."""

    version: int = 0
    state: str = "pending"
    attempts: int = 0
    replaced: int | None = None
    doubt: int | None = None
    failures: dict[int, str] = field(default_factory=dict)
    segments: dict[tuple[int, int], Acknowledged] = field(default_factory=dict)

    def ids(self, least: int, below: int) -> set[str]:
        """Of all versions from `least` on and below the other."""
        return {
            name
            for (version, _), row in self.segments.items()
            if least <= version < below
            for name in unpacked(row.ids)
        }

    def replace(self) -> None:
        if any(version < self.version for version, _ in self.segments):
            self.replaced = self.version

    @property
    def forgotten(self) -> bool:
        return self.state == "removed" and self.replaced is None and self.doubt is None


class Life(RuleBasedStateMachine):
    """A ledger beside a plain dictionary, through commits, ends and crashes."""

    network = False

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.patch = mock.patch.object(module, "_on_network", lambda folder: self.network)
        self.patch.start()
        self.deaths = 0
        self.files: dict[str, File] = {}
        self.committed: dict[str, File] = {}
        self.ledger = opened(self.place)

    def teardown(self) -> None:
        self.ledger.close()
        self.patch.stop()
        shutil.rmtree(self.place)

    def row(self, source: str) -> ItemRow:
        row = self.ledger.items.find(source)
        assert row is not None
        return row

    def met(self, source: str) -> tuple[int, File]:
        """A file as a run finds it: new, known, or back after it was removed."""
        row, file = self.ledger.items.find(source), self.files.setdefault(source, File())
        if row is None:
            row = self.ledger.items.add(item(source), 1)
        elif file.state == "removed":
            self.revise(row.id, file)
        return row.id, file

    def revise(self, number: int, file: File) -> None:
        self.ledger.items.start_revision(number, item("/", 2, 2))
        file.version, file.attempts, file.state, file.failures = file.version + 1, 0, "pending", {}

    @rule(source=sources, fates=fates, revised=st.booleans(), finished=st.booleans())
    def acknowledge(
        self, source: str, fates: dict[int, tuple[set[str], bool, bool]], revised: bool, finished: bool
    ) -> None:
        number, file = self.met(source)
        if revised:
            self.revise(number, file)
        rows = []
        for ordinal, (letters, complete, behind_failure) in fates.items():
            place = 10 * ordinal
            after = -1 if not ordinal else place - 1 if behind_failure else place - 10
            ids = packed(source, ordinal, letters)
            rows.append(
                Acknowledged(number, file.version, place, after, None, f"after {place}", ids, complete)
            )
            file.segments[file.version, place] = rows[-1]
        self.ledger.segments.acknowledge(rows)
        if finished:
            self.ledger.items.finish(number, "indexed")
            self.ledger.leftovers.replace(number)
            file.state = "indexed"
            file.replace()

    @rule(source=sources)
    def start_attempt(self, source: str) -> None:
        number, file = self.met(source)
        self.ledger.items.start_attempt(number)
        file.attempts, file.state = file.attempts + 1, "pending"

    @rule(source=sources, ordinal=st.integers(-1, 3), message=st.text(max_size=5))
    def fail(self, source: str, ordinal: int, message: str) -> None:
        number, file = self.met(source)
        self.ledger.items.fail(FailureRow(number, ordinal, None, "parse", "bad", message))
        file.failures[ordinal] = message

    @rule(source=sources)
    def skip(self, source: str) -> None:
        number, file = self.met(source)
        self.ledger.leftovers.replace_all(number)
        self.ledger.items.finish(number, "skipped", "empty")
        file.version, file.state, file.failures = file.version + 1, "skipped", {}
        file.replace()

    @rule(source=sources)
    def remove(self, source: str) -> None:
        number, file = self.met(source)
        self.ledger.leftovers.remove(number)
        file.version, file.state, file.failures = file.version + 1, "removed", {}
        file.replace()
        if file.doubt is not None:
            file.doubt = Doubt.SWEEP
        if not file.segments:
            file.replaced = None
        if file.forgotten:
            del self.files[source]

    @rule(source=sources, known=st.booleans())
    def open_attempt(self, source: str, known: bool) -> None:
        number, file = self.met(source)
        before = file.doubt
        file.doubt = Doubt.SAME if known and before in (None, Doubt.SAME) else Doubt.OTHER
        assert self.ledger.leftovers.open_attempt(number, known) == (None if before is None else file.doubt)

    @rule(source=sources)
    def close_attempts(self, source: str) -> None:
        number, file = self.met(source)
        self.ledger.leftovers.close_attempts(number)
        file.doubt = None

    @rule(source=sources, least=st.sampled_from((Doubt.SAME, Doubt.OTHER)))
    def ask_for_a_sweep(self, source: str, least: Doubt) -> None:
        number, file = self.met(source)
        self.ledger.leftovers.sweep(number, least)
        if file.doubt is not None and file.doubt >= least:
            file.doubt = Doubt.SWEEP

    @rule()
    def sweep(self) -> None:
        row = self.ledger.leftovers.next_sweep()
        if row is not None:
            self.ledger.leftovers.end_sweep(row.id)
            file = self.files[row.uri]
            file.doubt = None
            if file.forgotten:
                del self.files[row.uri]

    @rule(plan=st.sampled_from("ab"))
    def adopt_plan(self, plan: str) -> None:
        another = self.ledger.get("plan text") not in (None, plan)
        self.ledger.adopt_plan("text", plan)
        for file in self.files.values():
            if another and file.doubt == Doubt.SAME:
                file.doubt = Doubt.OTHER

    @rule(meanwhile=st.booleans())
    def clean(self, meanwhile: bool) -> None:
        """A newer version may come through before the database has deleted what an older one left."""
        row = self.ledger.leftovers.next_replaced()
        if row is None:
            return
        file = self.files[row.uri]
        if meanwhile:
            self.ledger.leftovers.replace_all(row.id)
            file.version, file.failures = file.version + 1, {}
            file.replace()
        self.ledger.leftovers.drop_older(row)
        file.segments = {key: each for key, each in file.segments.items() if key[0] >= row.revision}
        if file.replaced == row.revision:
            file.replaced = None
        if file.forgotten:
            del self.files[row.uri]

    @precondition(lambda self: self.deaths > 1)
    @rule()
    def begin_again(self) -> None:
        self.ledger.begin_again()
        self.files = {source: File() for source, file in self.files.items() if file.state != "removed"}

    @rule()
    def commit(self) -> None:
        self.ledger.commit()
        self.committed = deepcopy(self.files)

    @rule()
    def end(self) -> None:
        self.ledger.close()
        self.committed = deepcopy(self.files)
        self.ledger = opened(self.place)

    @rule()
    def crash(self) -> None:
        """What lies on the disk at this moment is all that is left."""
        self.deaths += 1
        after = self.place / str(self.deaths)
        after.mkdir()
        for suffix in ("", "-wal", "-journal"):
            if (path := self.place / f"ledger.sqlite{suffix}").exists():
                shutil.copy(path, after)
        self.ledger._db.close()
        for path in self.place.glob("ledger.sqlite*"):
            path.unlink()
        for path in after.iterdir():
            shutil.move(path, self.place)
        self.ledger = opened(self.place)
        self.files = deepcopy(self.committed)

    @invariant()
    def holds_the_files(self) -> None:
        told: dict[str, dict[int, str]] = {}
        for source in SOURCES:
            row, file = self.ledger.items.find(source), self.files.get(source)
            assert (row is None) == (file is None)
            if row is not None and file is not None:
                assert (row.revision, row.state, row.attempts) == (file.version, file.state, file.attempts)
                assert self.ledger.segments.has_records(row.id) == bool(file.segments)
                told[source] = file.failures
        assert sorted(
            (str(line["source"]), str(line["message"])) for line in self.ledger.items.failures()
        ) == sorted((source, message) for source, failures in told.items() for message in failures.values())

    @invariant()
    def never_goes_on_behind_what_is_missing(self) -> None:
        for source, file in self.files.items():
            rows = {n: row for (version, n), row in file.segments.items() if version == file.version}
            progress = self.ledger.segments.progress(self.row(source).id, file.version)
            passed = {n for n in range(0, 10 * SEGMENTS, 10) if n <= progress.last or n in progress.done}
            assert passed == {n for n, row in rows.items() if row.complete}
            assert progress.checkpoint == (None if progress.last < 0 else f"after {progress.last}")
            assert progress.chunks == sum(len(row.ids) // ID_BYTES for row in rows.values())

    @invariant()
    def knows_which_records_are_there_and_which_must_go(self) -> None:
        replaced = {source: file for source, file in self.files.items() if file.replaced is not None}
        told, after = {}, 0
        while row := self.ledger.leftovers.next_replaced(after):
            after = row.id
            told[row.uri] = row.revision
            slices = list(self.ledger.leftovers.stale_ids(row.id, row.revision, 70))
            assert all(len(part) <= 70 for part in slices)
            file = self.files[row.uri]
            stale = file.ids(0, row.revision) - file.ids(row.revision, file.version + 1)
            assert {name for part in slices for name in part} == stale
        assert told == {source: file.replaced for source, file in replaced.items()}
        waiting = {
            self.row(source).id: file for source, file in self.files.items() if file.doubt == Doubt.SWEEP
        }
        first = self.ledger.leftovers.next_sweep()
        assert (None if first is None else first.id) == min(waiting, default=None)
        if first is not None:
            self.ledger.leftovers.begin_sweep(first.id)
            named = waiting[first.id].ids(0, waiting[first.id].version + 1)
            found = sorted(name for s in SOURCES for n in range(2) for name in unpacked(packed(s, n, {"x"})))
            assert self.ledger.leftovers.unnamed(found) == [name for name in found if name not in named]
        there = [file.ids(0, file.version + 1) for file in self.files.values()]
        assert self.ledger.audit.distinct_records() == sum(len(names) for names in there)


class LifeOnANetwork(Life):
    """The same with a rollback journal."""

    network = True


few = settings(max_examples=40, stateful_step_count=25, deadline=None, database=None)

TestLife = pytest.mark.filterwarnings("error")(Life.TestCase)
TestLife.settings = few
TestLifeOnANetwork = pytest.mark.filterwarnings("error")(LifeOnANetwork.TestCase)
TestLifeOnANetwork.settings = few


# Damage


def some_ledger(place: Path, closed: bool) -> Ledger:
    """Files with old and new versions, failures, and what is to be deleted; with a log beside it if open."""
    ledger = opened(place)
    for number in range(12):
        row = ledger.items.add(item(f"/corpus/file {number}"), 1)
        for version in range(1 + number % 2):
            if version:
                ledger.items.start_revision(row.id, item("/", 2, 2))
            rows = [
                Acknowledged(row.id, version, n, n - 1, None, "[]", packed(row.uri, n, {"x"}), True)
                for n in range(3)
            ]
            ledger.segments.acknowledge(rows)
        ledger.leftovers.replace(row.id)
        ledger.leftovers.open_attempt(row.id, known=number % 3 > 0)
        ledger.leftovers.sweep(row.id, Doubt.OTHER)
        ledger.items.fail(FailureRow(row.id, number, 1, "parse", "bad", "no font"))
        ledger.items.finish(row.id, "partial")
    ledger.commit()
    if closed:
        ledger.close()
    return ledger


def answers(ledger: Ledger) -> list[object]:
    """All that a run asks of a ledger."""
    told: list[object] = [
        list(ledger.items.failures()),
        ledger.audit.totals(),
        ledger.audit.distinct_records(),
    ]
    for number in range(12):
        row = ledger.items.find(f"/corpus/file {number}")
        told.append(row)
        if row is not None:
            told += [
                ledger.segments.progress(row.id, row.revision),
                list(ledger.leftovers.stale_ids(row.id, row.revision, 50)),
            ]
    return told


def change(ledger: Ledger) -> None:
    """What a run does to a ledger."""
    row = ledger.items.add(item("/corpus/new"), 2)
    ledger.segments.acknowledge([Acknowledged(row.id, 0, 0, -1, None, "[]", bytes(16), True)])
    while waiting := ledger.leftovers.next_replaced():
        ledger.leftovers.drop_older(waiting)
    while swept := ledger.leftovers.next_sweep():
        ledger.leftovers.begin_sweep(swept.id)
        ledger.leftovers.unnamed(["0" * 32])
        ledger.leftovers.end_sweep(swept.id)
    ledger.commit()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """A ledger's one file after a clean end, and a crashed one's two."""
    closed, open_ = tmp_path_factory.mktemp("closed"), tmp_path_factory.mktemp("open")
    some_ledger(closed, True)
    ledger = some_ledger(open_, False)
    files = {
        "closed": (closed / "ledger.sqlite").read_bytes(),
        "main": (open_ / "ledger.sqlite").read_bytes(),
        "log": (open_ / "ledger.sqlite-wal").read_bytes(),
    }
    ledger.close()
    yield files


def ways(size: int) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    flips = st.tuples(st.just("flip"), st.integers(0, size - 1), st.integers(0, 7))
    zeros = st.tuples(st.just("zero"), st.integers(0, size - 1), st.integers(1, 5000))
    cuts = st.tuples(st.just("cut"), st.integers(1, size - 1), st.just(0))
    return st.lists(flips, min_size=1, max_size=30) | st.lists(zeros | cuts, min_size=1, max_size=1)


def damaged(data: bytes, way: list[tuple[str, int, int]]) -> bytes:
    out = bytearray(data)
    for kind, place, amount in way:
        if kind == "flip":
            out[place] ^= 1 << amount
        elif kind == "zero":
            out[place : place + amount] = bytes(len(out[place : place + amount]))
        else:
            del out[place:]
    return bytes(out)


@pytest.mark.parametrize("file", ["closed", "main", "log"])
def test_a_damaged_ledger_is_refused_in_one_line_or_works_to_the_end(
    file: str, sound: dict[str, bytes], tmp_path: Path
) -> None:
    refusals: list[str] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(ways(len(sound[file])))
    def holds(way: list[tuple[str, int, int]]) -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        data = damaged(sound[file], way)
        (tmp_path / "ledger.sqlite").write_bytes(sound["main"] if file == "log" else data)
        if file != "closed":
            (tmp_path / "ledger.sqlite-wal").write_bytes(data if file == "log" else sound["log"])
        try:
            ledger = opened(tmp_path)
        except UsageError as error:
            refusals.append(str(error))
            return
        answers(ledger)
        change(ledger)
        answers(ledger)
        ledger.close()

    holds()
    assert all("\n" not in told and "ledger.sqlite: " in told for told in refusals)
    assert (file == "closed") <= bool(refusals)
