"""Every file that is found ends in one state, its records are those of its content, and the counts add up."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import HandOverError
from engine.records import Kind, SectionFailure
from engine.runtime.bookkeeping import Bookkeeping
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.cleanup import Cleaner
from engine.runtime.ledger.counts import Counts
from engine.runtime.ledger.settling import CHANGED_ATTEMPTS
from engine.runtime.ledger.states import IllegalTransitionError
from engine.runtime.ledger.store import Ledger
from engine.runtime.process import messages as m
from engine.sources.base import Item, LeftOut, Unreadable
from engine.sources.local import local_item
from engine.stages.parse import FileEnd, FileJob
from tests.items import item
from tests.runtime.simulation import Content, Database, Piece, Run, acknowledged, states

property_test = settings(
    deadline=None, database=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)

PLANS = {"text": "chunker model", "image": "clip"}


@st.composite
def pieces(draw: st.DrawFn, number: int) -> Piece | None:
    flavours = draw(st.text("ab", max_size=3))
    if not flavours:
        return None
    names = tuple(f"{number}.{i}{flavour}" for i, flavour in enumerate(flavours))
    return Piece(names, draw(st.sampled_from((0, 0, 0, 1))))


@st.composite
def contents(draw: st.DrawFn, mtime_ns: int = 1) -> Content:
    count = draw(st.integers(0, 4))
    return Content(
        tuple(draw(pieces(i)) for i in range(count)), mtime_ns, draw(st.sampled_from((False, False, True)))
    )


def corpora(mtime_ns: int = 1) -> st.SearchStrategy[dict[str, Content]]:
    return st.dictionaries(st.sampled_from(["/a", "/b", "/c", "/d"]), contents(mtime_ns), max_size=4)


randoms = st.integers(0, 2**32).map(Random)


def fits(counts: Counts, corpus: dict[str, Content]) -> bool:
    """Whether each file is counted in one state."""
    done = counts.indexed + counts.partial + counts.unchanged + counts.skipped + counts.failed
    whole = counts.bytes_done == counts.bytes_found == sum(content.size for content in corpus.values())
    return counts.discovered == len(corpus) == done and counts.pending == 0 and whole


def expected(corpus: dict[str, Content]) -> set[str]:
    return {record for path, content in corpus.items() for record in content.ids(path)}


def strays(folder: Path, database: Database) -> set[str]:
    """Records that the ledger doesn't name, but for those of files that are to be tried again."""
    done = {path for path, state in states(folder).items() if state != "failed"}
    gone = set(database.sources.values()) - set(states(folder))
    return {one for path in done | gone for one in database.ids_of(path)} - acknowledged(folder)


# Any order of events


@property_test
@given(corpora(), randoms)
def test_whatever_the_order_of_the_news_each_file_ends_in_the_state_of_its_content(
    corpus: dict[str, Content], random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), corpus, Database(), random)
        assert run.go()
        counts = run.accounts.counts
        assert fits(counts, corpus)
        assert run.accounts.active == 0
        assert states(Path(name)) == {path: content.state for path, content in corpus.items()}
        assert run.database.ids == acknowledged(Path(name)) == expected(corpus)
        assert counts.records == len(expected(corpus))


@property_test
@given(corpora(), st.integers(1, 4), randoms)
def test_parsers_may_die_at_any_moment_and_no_file_or_record_is_lost_or_written_twice(
    corpus: dict[str, Content], deaths: int, random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), corpus, Database(), random)
        assert run.go(deaths)
        assert fits(run.accounts.counts, corpus)
        assert run.accounts.active == 0
        assert run.database.ids == acknowledged(Path(name))
        for path, state in states(Path(name)).items():
            # A file that was at work in three crashes is given up, with what was written of it.
            given_up = run.crashes[path] >= 3 and state in ("failed", "partial")
            assert given_up or state == corpus[path].state
            assert given_up or corpus[path].ids(path) <= run.database.ids


@property_test
@given(corpora(), st.integers(1, 3), st.integers(0, 2), randoms)
def test_all_processes_may_die_at_any_moment_and_the_run_goes_on_to_the_same_end(
    corpus: dict[str, Content], collapses: int, deaths: int, random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), corpus, Database(), random)
        assert run.go(deaths, collapses=collapses)
        assert fits(run.accounts.counts, corpus)
        assert states(Path(name)) == {path: content.state for path, content in corpus.items()}
        assert run.database.ids == acknowledged(Path(name)) == expected(corpus)


@property_test
@given(corpora(), st.integers(1, 4), st.integers(0, 3), st.integers(0, 1), randoms)
def test_a_lane_may_die_at_any_moment_and_what_had_reached_the_indexer_is_not_made_again(
    corpus: dict[str, Content], lane_deaths: int, deaths: int, collapses: int, random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), corpus, Database(), random)
        assert run.go(deaths, collapses=collapses, lane_deaths=lane_deaths)
        assert fits(run.accounts.counts, corpus)
        assert run.accounts.active == 0
        assert run.database.ids == acknowledged(Path(name))
        if not any(run.crashes[path] >= 3 for path in corpus):
            assert states(Path(name)) == {path: content.state for path, content in corpus.items()}
            assert run.database.ids == expected(corpus)
            refused = any(piece and piece.refused for each in corpus.values() for piece in each.pieces)
            if not collapses and not deaths and not refused:
                assert run.accounts.counts.records == len(expected(corpus)), "none was written twice"


@property_test
@given(corpora(), st.lists(st.integers(0, 60), min_size=1, max_size=3), randoms)
def test_a_killed_run_resumes_to_the_same_records_as_an_undisturbed_one(
    corpus: dict[str, Content], kills: list[int], random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        database = Database()
        for actions in kills:
            Run(Path(name), corpus, database, random).go(1, actions)
        run = Run(Path(name), corpus, database, random)
        assert run.go()
        assert fits(run.accounts.counts, corpus)
        assert database.ids == acknowledged(Path(name)) == expected(corpus)
        assert states(Path(name)) == {path: content.state for path, content in corpus.items()}


@property_test
@given(corpora(1), corpora(2), st.none() | st.integers(0, 60), randoms)
def test_changed_files_have_the_new_records_alone_and_those_whose_new_version_fails_their_old_ones(
    before: dict[str, Content], after: dict[str, Content], killed_after: int | None, random: Random
) -> None:
    corpus = before | after
    with tempfile.TemporaryDirectory() as name:
        database = Database()
        assert Run(Path(name), before, database, random).go()
        if killed_after is not None:
            Run(Path(name), corpus, database, random).go(1, killed_after)
        run = Run(Path(name), corpus, database, random)
        assert run.go()
        kept = {path: before[path] for path in before if corpus[path].state == "failed"}
        assert fits(run.accounts.counts, corpus)
        assert database.ids == acknowledged(Path(name)) == expected(corpus) | expected(kept)


@property_test
@given(corpora(1), corpora(2), corpora(3), st.integers(0, 200), st.booleans(), randoms)
def test_a_change_after_a_kill_never_leaves_the_ledger_with_records_that_were_deleted(
    before: dict[str, Content],
    between: dict[str, Content],
    after: dict[str, Content],
    killed_after: int,
    reverted: bool,
    random: Random,
) -> None:
    last = {path: replace(content, mtime_ns=3) for path, content in before.items()} if reverted else after
    with tempfile.TemporaryDirectory() as name:
        database = Database()
        assert Run(Path(name), before, database, random).go()
        Run(Path(name), before | between, database, random).go(0, killed_after)
        corpus = before | between | last
        run = Run(Path(name), corpus, database, random)
        assert run.go()
        assert fits(run.accounts.counts, corpus)
        assert acknowledged(Path(name)) <= database.ids
        assert expected(corpus) <= database.ids
        assert not strays(Path(name), database)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Content]]:
    """What the corpus is in each of some runs: files come, change, turn back to what they were, and go."""
    kinds = {path: [draw(contents(mtime_ns)) for mtime_ns in (1, 2)] for path in ("/a", "/b", "/c")}
    corpus = st.fixed_dictionaries({}, optional={path: st.sampled_from(kinds[path]) for path in kinds})
    return draw(st.lists(corpus, min_size=2, max_size=4))


@property_test
@given(histories(), st.lists(st.integers(0, 100), min_size=3, max_size=3), st.integers(0, 2), randoms)
def test_whatever_was_killed_and_changed_the_database_holds_nothing_that_the_ledger_does_not(
    history: list[dict[str, Content]], kills: list[int], collapses: int, random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        database = Database()
        for corpus, actions in zip(history[:-1], kills, strict=False):
            Run(Path(name), corpus, database, random, random.choice("xy"), prune=True).go(
                0, actions, collapses
            )
        run = Run(Path(name), history[-1], database, random, random.choice("xy"), prune=True)
        assert run.go(collapses=collapses)
        assert fits(run.accounts.counts, history[-1])
        assert set(states(Path(name))) == set(history[-1])
        assert expected(history[-1]) <= acknowledged(Path(name)) <= database.ids
        assert not strays(Path(name), database)


@property_test
@given(corpora(), randoms)
def test_a_second_run_does_nothing_for_what_was_indexed_and_tries_again_what_failed(
    corpus: dict[str, Content], random: Random
) -> None:
    with tempfile.TemporaryDirectory() as name:
        database = Database()
        assert Run(Path(name), corpus, database, random).go()
        mended = {
            path: replace(
                content,
                failed=False,
                pieces=tuple(
                    replace(piece, refused=0) if piece else Piece((f"mended {i}",))
                    for i, piece in enumerate(content.pieces)
                ),
            )
            for path, content in corpus.items()
        }
        run = Run(Path(name), mended, database, random)
        assert run.go()
        unchanged = sum(content.state == "indexed" for content in corpus.values())
        tried = [content for content in corpus.values() if content.state in ("partial", "failed")]
        counts = run.accounts.counts
        assert fits(counts, corpus)
        assert counts.unchanged == unchanged
        indexed_now = [c for c in tried if c.pieces]
        assert counts.indexed == len(indexed_now)
        assert database.ids == acknowledged(Path(name)) == expected(mended)


# One file, step by step


class Scene:
    """Accounts over a ledger of their own, and short words for what may happen to one file."""

    def __init__(
        self, ledger: Ledger, skip_failed: bool = False, images: bool = True, plans: dict[str, str] = PLANS
    ) -> None:
        self.ledger = ledger
        self.skipped = io.StringIO()
        known = plans if images else {"text": plans["text"]}
        self.accounts = Accounts(ledger, ledger.next_run(), known.get, self.skipped, skip_failed)
        self.cleaner = Cleaner(ledger)
        for kind, plan in known.items():
            ledger.adopt_plan(kind, plan)
        #: What the database turns out to hold of `FILE` when it is swept.
        self.stray: list[str] = []

    @property
    def counts(self) -> Counts:
        return self.accounts.counts

    def begin(self, found: Item) -> FileJob:
        work = self.accounts.admit(found)
        assert work is not None
        job = self.accounts.dispatch(work)
        assert job is not None
        return job

    def segment(
        self, job: FileJob, ordinal: int, name: str = "", kind: Kind = "text", after: int = -1
    ) -> None:
        """One segment of one chunk on its whole way."""
        self.accounts.received(m.Received(job.attempt, ordinal, 1, 1, "parser-0"))
        self.accounts.written(written(job, ordinal, name, kind, after))

    def parsed(self, job: FileJob, segments: int, outcome: str = "parsed", **more: str) -> None:
        end = FileEnd(outcome, "text", "text/plain", "hash", segments, segments)  # type: ignore[arg-type]
        for field, value in more.items():
            setattr(end, field, value)
        self.accounts.parsed(job.attempt, end)

    def index(self, found: Item, *names: str, kind: Kind = "text") -> None:
        job = self.begin(found)
        for ordinal, name in enumerate(names):
            self.segment(job, ordinal, name, kind, ordinal - 1)
        self.parsed(job, len(names), kind=kind)

    def deletes(self) -> set[str]:
        """What the cleaner asks to delete; answered at once."""
        ids: set[str] = set()
        while not self.cleaner.idle:
            for request in self.cleaner.requests():
                if isinstance(request, m.Delete):
                    ids.update(request.ids)
                    self.cleaner.deleted(request.request)
                else:
                    there = self.stray if request.source == FILE.uri else []
                    self.cleaner.found(m.Found(request.request, [packed(one).hex() for one in there], True))
        return ids

    def failures(self) -> list[dict[str, object]]:
        return list(self.ledger.items.failures())


def written(
    job: FileJob, ordinal: int, name: str = "", kind: Kind = "text", after: int = -1, refused: bool = False
) -> m.SegmentWritten:
    ids = b"" if refused else packed(name or f"{job.item.uri} {ordinal}")
    reasons = {0: "too long"} if refused else {}
    return m.SegmentWritten(job.attempt, ordinal, after, str(ordinal), kind, None, 1, ids, reasons)


def packed(name: str) -> bytes:
    return name.encode().ljust(16, b"_")[:16]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    ledger = Ledger(tmp_path)
    yield Scene(ledger)
    ledger.close()


def again(
    scene: Scene, skip_failed: bool = False, images: bool = True, plans: dict[str, str] = PLANS
) -> Scene:
    """The next invocation in the same directory."""
    return Scene(scene.ledger, skip_failed, images, plans)


FILE = item("/corpus/file", 100)
TOUCHED = item("/corpus/file", 100, 2)


def test_a_touched_file_is_unchanged_when_its_content_is_the_same(scene: Scene) -> None:
    scene.index(FILE, "old")
    second = again(scene)
    job = second.begin(TOUCHED)
    assert job.known_hash == "hash"
    second.parsed(job, 0, "unchanged")
    assert (second.counts.unchanged, second.counts.pending) == (1, 0)
    assert second.deletes() == set()
    third = again(scene)
    assert third.accounts.admit(TOUCHED) is None
    assert third.counts.unchanged == 1


def test_old_ids_are_deleted_only_when_the_whole_new_version_is_acknowledged(scene: Scene) -> None:
    scene.index(FILE, "shared", "old")
    second = again(scene)
    job = second.begin(TOUCHED)
    second.segment(job, 0, "shared")
    second.accounts.received(m.Received(job.attempt, 1, 1, 1, "parser-0"))
    second.parsed(job, 2)
    second.accounts.flush()
    assert second.deletes() == set()
    second.accounts.written(written(job, 1, "new", after=0))
    assert second.deletes() == {packed("old").hex()}
    assert second.ledger.audit.totals() == {"files": 1, "records": 2}


def test_a_changed_file_whose_new_version_fails_keeps_its_old_records(scene: Scene) -> None:
    scene.index(FILE, "old")
    second = again(scene)
    second.parsed(second.begin(TOUCHED), 0, "failed", rule="damaged", message="torn")
    assert second.counts.failed == 1
    assert second.deletes() == set()
    assert second.ledger.audit.totals() == {"files": 1, "records": 1}
    assert [failure["error_type"] for failure in second.failures()] == ["damaged"]


def test_a_file_that_fails_while_its_last_change_is_not_cleaned_up_yet_loses_only_what_that_replaced(
    scene: Scene,
) -> None:
    scene.index(FILE, "first")
    second = again(scene)
    second.index(TOUCHED, "second")  # killed before the cleaner came to it
    third = again(scene)
    third.parsed(third.begin(item("/corpus/file", 100, 3)), 0, "failed", rule="damaged", message="torn")
    assert third.deletes() == {packed("first").hex()}
    assert third.ledger.audit.totals() == {"files": 1, "records": 1}


def test_a_file_that_changed_while_it_was_read_is_read_again_as_it_is_now(
    scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("now longer")
    found = item(str(path), 3)
    job = scene.begin(found)
    scene.segment(job, 0, "torn")
    scene.parsed(job, 1, "changed")
    assert (scene.counts.pending, scene.accounts.active) == (1, 0)
    newer = scene.accounts.again.popleft()
    assert newer == local_item(str(path))
    job_again = scene.accounts.dispatch(newer)
    assert job_again is not None
    assert job_again.maybe_present
    scene.segment(job_again, 0, "whole")
    scene.parsed(job_again, 1)
    assert (scene.counts.discovered, scene.counts.indexed, scene.counts.pending) == (1, 1, 0)
    assert scene.deletes() == {packed("torn").hex()}


def test_a_file_that_changes_each_time_has_failed_after_a_few_attempts(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x")
    found: Item | None = item(str(path), 3)
    attempts = 0
    assert found is not None
    job: FileJob | None = scene.begin(found)
    while job is not None:
        attempts += 1
        path.write_text("x" * (attempts + 3))
        scene.parsed(job, 0, "changed")
        job = scene.accounts.dispatch(scene.accounts.again.popleft()) if scene.accounts.again else None
    assert attempts == CHANGED_ATTEMPTS
    assert (scene.counts.failed, scene.counts.pending) == (1, 0)
    assert [failure["error_type"] for failure in scene.failures()] == ["changed-while-read"]


def test_a_file_that_vanished_while_it_was_read_has_failed(scene: Scene) -> None:
    scene.parsed(scene.begin(replace(FILE, location="/nowhere/file")), 0, "changed")
    assert scene.counts.failed == 1
    assert [failure["message"] for failure in scene.failures()] == ["it vanished while it was read"]


def test_a_formerly_indexed_picture_is_unchanged_without_images_and_back_with_them(scene: Scene) -> None:
    scene.index(FILE, "picture", kind="image")
    without = again(scene, images=False)
    assert without.accounts.admit(FILE) is None
    assert without.counts.unchanged == 1
    assert without.deletes() == set()
    assert again(scene).accounts.admit(FILE) is None


def test_a_changed_picture_that_no_images_leaves_out_keeps_its_records_until_it_is_read(scene: Scene) -> None:
    scene.index(FILE, "picture", kind="image")
    without = again(scene, images=False)
    without.parsed(without.begin(TOUCHED), 0, "skipped", rule="no-images")
    assert (without.counts.skipped, without.counts.pending) == (1, 0)
    assert without.deletes() == set()
    assert without.ledger.audit.totals()["records"] == 1
    with_images = again(scene)
    with_images.index(TOUCHED, "changed picture", kind="image")
    assert with_images.deletes() == {packed("picture").hex()}


def test_a_picture_left_out_by_no_images_is_not_read_again_while_pictures_are_left_out(scene: Scene) -> None:
    without = again(scene, images=False)
    without.parsed(without.begin(FILE), 0, "skipped", rule="no-images")
    rerun = again(scene, images=False)
    assert rerun.accounts.admit(FILE) is None
    assert rerun.counts.rules == {"no-images": 1}
    assert again(scene).accounts.admit(FILE) == FILE


def test_two_inputs_that_overlap_count_a_file_once(scene: Scene) -> None:
    scene.index(FILE, "chunk")
    assert scene.accounts.admit(FILE) is None
    second = again(scene)
    assert second.accounts.admit(FILE) is None
    assert second.accounts.admit(FILE) is None
    assert (second.counts.discovered, second.counts.unchanged) == (1, 1)


def test_a_folder_that_can_not_be_listed_is_told_once_however_often_it_is_met(scene: Scene) -> None:
    for _ in range(2):
        assert scene.accounts.admit(Unreadable("/corpus/locked", "permission denied")) is None
    assert (scene.counts.discovered, scene.counts.failed) == (1, 1)
    assert [failure["message"] for failure in scene.failures()] == ["permission denied"]


def test_a_partial_file_is_tried_again_without_what_is_done(scene: Scene) -> None:
    job = scene.begin(FILE)
    scene.segment(job, 0, "first")
    scene.accounts.section_failed(job.attempt, SectionFailure(1, 2, "damaged-page", "no font"), 1)
    scene.segment(job, 2, "third", after=1)
    scene.parsed(job, 2)
    assert (scene.counts.partial, len(scene.failures())) == (1, 1)
    second = again(scene)
    job = second.begin(FILE)
    assert (job.last, job.checkpoint, job.done, job.maybe_present) == (0, "0", frozenset({2}), True)
    second.segment(job, 1, "second", after=0)
    second.parsed(job, 1)
    assert (second.counts.indexed, second.failures()) == (1, [])
    third = again(scene)
    assert third.accounts.admit(FILE) is None
    assert third.ledger.audit.totals()["records"] == 3


def test_a_refused_record_is_a_failure_of_its_document(scene: Scene) -> None:
    job = scene.begin(FILE)
    scene.accounts.received(m.Received(job.attempt, 0, 1, 1, "parser-0"))
    scene.accounts.written(replace(written(job, 0, refused=True), document="row 7"))
    scene.parsed(job, 1)
    assert [line["document"] for line in scene.failures()] == ["row 7"]


def test_what_the_database_refused_and_takes_later_makes_the_file_whole(scene: Scene) -> None:
    job = scene.begin(FILE)
    scene.accounts.received(m.Received(job.attempt, 0, 1, 1, "parser-0"))
    scene.accounts.written(written(job, 0, refused=True))
    scene.parsed(job, 1)
    assert scene.counts.failed == 1
    second = again(scene)
    job = second.begin(FILE)
    assert (job.last, job.done) == (-1, frozenset())
    second.segment(job, 0)
    second.parsed(job, 1)
    assert (second.counts.indexed, second.failures()) == (1, [])


def test_skip_failed_leaves_alone_what_failed_unless_it_changed(scene: Scene) -> None:
    scene.parsed(scene.begin(FILE), 0, "failed", rule="damaged", message="torn")
    second = again(scene, skip_failed=True)
    assert second.accounts.admit(FILE) is None
    assert (second.counts.failed, len(second.failures())) == (1, 1)
    assert again(scene, skip_failed=True).accounts.admit(TOUCHED) == TOUCHED


def test_another_model_or_chunker_makes_every_file_anew(scene: Scene) -> None:
    scene.index(FILE, "of the old model")
    second = again(scene, plans=PLANS | {"text": "another model"})
    job = second.begin(FILE)
    assert (job.known_hash, job.checkpoint, job.maybe_present) == (None, None, True)
    second.segment(job, 0, "of the new model")
    second.parsed(job, 1)
    assert second.deletes() == {packed("of the old model").hex()}


def test_an_indexed_file_that_is_empty_now_loses_its_records(scene: Scene) -> None:
    scene.index(FILE, "chunk")
    second = again(scene)
    work = second.accounts.admit(replace(TOUCHED, size=0))
    assert work is not None
    assert second.accounts.dispatch(work) is None
    assert (second.counts.skipped, second.counts.rules, second.counts.pending) == (1, {"empty": 1}, 0)
    assert second.deletes() == {packed("chunk").hex()}
    assert second.ledger.audit.totals() == {"files": 0, "records": 0}


def test_each_path_that_a_rule_leaves_out_is_a_line_with_its_rule(scene: Scene) -> None:
    scene.accounts.admit(LeftOut("/corpus/.git", "hidden"))
    scene.accounts.admit(LeftOut("/corpus/link", "broken-symlink", "no such file or directory"))
    lines = [json.loads(line) for line in scene.skipped.getvalue().splitlines()]
    assert lines == [
        {"source": "/corpus/.git", "rule": "hidden"},
        {"source": "/corpus/link", "rule": "broken-symlink", "detail": "no such file or directory"},
    ]
    assert (scene.counts.discovered, scene.counts.skipped) == (2, 2)


def test_messages_that_no_file_or_database_can_hold_are_told_all_the_same(
    scene: Scene, tmp_path: Path
) -> None:
    scene.parsed(scene.begin(FILE), 0, "failed", rule="damaged", message="of \udcff")
    scene.accounts.admit(LeftOut("/corpus/x", "symlink-loop", "of \udcff"))
    assert [failure["message"] for failure in scene.failures()] == ["of \\udcff"]
    (tmp_path / "skipped.jsonl").write_text(scene.skipped.getvalue(), encoding="utf-8")


# Crashes


def test_a_file_that_crashes_its_parser_is_tried_alone_at_last_and_has_failed_then(scene: Scene) -> None:
    job: FileJob | None = scene.begin(FILE)
    alone = []
    for _ in range(3):
        assert job is not None
        alone.append(job.alone)
        job = scene.accounts.lost(job.attempt, True, "its parser was killed by SIGSEGV")
    assert job is None
    assert alone == [False, False, True]
    assert (scene.counts.failed, scene.counts.pending) == (1, 0)
    (failure,) = scene.failures()
    assert failure["error_type"] == "poison"
    assert "killed by SIGSEGV; 3 times, the last time with no other file at work" in str(failure["message"])


def test_a_parser_that_is_killed_from_outside_says_nothing_about_its_file(scene: Scene) -> None:
    job: FileJob | None = scene.begin(FILE)
    for _ in range(50):
        assert job is not None
        job = scene.accounts.lost(job.attempt, True)
    assert job is not None
    assert job.maybe_present
    assert not job.alone


def test_a_file_that_only_waited_in_a_dead_parser_is_not_blamed(scene: Scene) -> None:
    job: FileJob | None = scene.begin(FILE)
    for _ in range(5):
        assert job is not None
        job = scene.accounts.lost(job.attempt, False)
    assert job is not None
    assert not job.maybe_present
    assert not job.alone


def test_what_is_on_its_way_when_a_parser_dies_is_not_made_again(scene: Scene) -> None:
    job = scene.begin(FILE)
    scene.segment(job, 0, "written")
    scene.accounts.received(m.Received(job.attempt, 1, 1, 1, "parser-0"))
    following = scene.accounts.lost(job.attempt, True)
    assert following is not None
    assert (following.last, following.done) == (0, frozenset({1}))
    scene.segment(following, 2, "third", after=1)
    scene.parsed(following, 1)
    assert scene.counts.pending == 1
    scene.accounts.written(written(job, 1, "second", after=0))
    assert (scene.counts.indexed, scene.counts.pending) == (1, 0)


def test_the_vectors_of_a_segment_count_though_its_file_has_its_end_or_is_in_another_lane(
    scene: Scene,
) -> None:
    inference = cast(Any, SimpleNamespace(name="inference-0"))
    books = Bookkeeping(cast(Any, SimpleNamespace(accounts=scene.accounts)))
    job = scene.begin(FILE)
    scene.accounts.place(job.attempt, "inference-0")
    scene.segment(job, 0)
    following = scene.accounts.lost(job.attempt, True)
    assert following is not None
    scene.accounts.place(following.attempt, "inference-1")
    books._embedded(m.Embedded(job.attempt, 0, vectors=1, tokens=7, kind="text", size=1), inference)
    scene.segment(following, 1, after=0)
    scene.parsed(following, 1)
    assert scene.counts.indexed == 1
    assert scene.accounts.lane_of(following.attempt) is None
    books._embedded(m.Embedded(following.attempt, 1, vectors=1, tokens=9, kind="text", size=1), inference)
    assert (scene.counts.text_chunks, scene.counts.tokens) == (2, 16)
    with pytest.raises(IllegalTransitionError):  # all of it has been heard
        books._embedded(m.Embedded(following.attempt, 1, vectors=1, tokens=9, kind="text", size=1), inference)


# What a run had written and not booked


def other_runs(scene: Scene, **how: object) -> Scene:
    """The next invocation, after one that was killed when `stray` was written and not booked."""
    scene.begin(FILE)
    following = again(scene, **how)  # type: ignore[arg-type]
    following.stray = ["stray", "new"]
    return following


@pytest.mark.parametrize("how", [{}, {"plans": PLANS | {"text": "another model"}}])
def test_a_file_that_changed_or_is_made_otherwise_after_a_kill_is_swept(
    scene: Scene, how: dict[str, object]
) -> None:
    second = other_runs(scene, **how)
    second.index(FILE if how else TOUCHED, "new")
    assert second.deletes() == {packed("stray").hex()}
    assert second.ledger.audit.totals() == {"files": 1, "records": 1}
    assert second.deletes() == set()


def test_the_same_again_after_a_kill_is_not_swept(scene: Scene) -> None:
    second = other_runs(scene)
    second.index(FILE, "new")
    assert list(second.cleaner.requests()) == []
    assert again(scene).accounts.admit(FILE) is None


def test_a_run_that_nothing_happens_to_sweeps_nothing(scene: Scene) -> None:
    scene.index(FILE, "old")
    second = again(scene)
    second.index(TOUCHED, "old")
    assert list(second.cleaner.requests()) == []
    third = again(scene)
    third.parsed(third.begin(item("/corpus/file", 100, 3)), 0, "failed", rule="damaged", message="torn")
    assert list(third.cleaner.requests()) == []
    assert again(scene).ledger.leftovers.open_attempt(1, known=True) is None


def test_a_change_of_a_change_after_a_kill_is_swept(scene: Scene) -> None:
    scene.index(FILE, "old")
    again(scene).begin(TOUCHED)  # killed; nothing of this version is booked
    third = again(scene)
    third.stray = ["stray", "old", "new"]
    third.index(item("/corpus/file", 100, 3), "new")
    assert third.deletes() == {packed("old").hex(), packed("stray").hex()}


@pytest.mark.parametrize("mtime_ns", [1, 3])
def test_a_change_that_was_taken_back_after_a_kill_is_swept(scene: Scene, mtime_ns: int) -> None:
    scene.index(FILE, "old")
    again(scene).begin(TOUCHED)
    third = again(scene)
    third.stray = ["stray", "old"]
    found = item("/corpus/file", 100, mtime_ns)
    if work := third.accounts.admit(found):
        job = third.accounts.dispatch(work)
        assert job is not None
        third.parsed(job, 0, "unchanged")
    assert third.counts.unchanged == 1
    assert third.deletes() == {packed("stray").hex()}


def test_a_file_that_is_empty_after_a_kill_is_swept(scene: Scene) -> None:
    second = other_runs(scene)
    work = second.accounts.admit(replace(TOUCHED, size=0))
    assert work is not None
    assert second.accounts.dispatch(work) is None
    assert second.deletes() == {packed("stray").hex(), packed("new").hex()}


def test_a_file_that_is_gone_after_a_kill_is_swept_before_it_is_forgotten(scene: Scene) -> None:
    second = other_runs(scene)
    for _ in second.accounts.prune(("/corpus/",)):
        pass
    assert second.ledger.items.find(FILE.uri) is not None
    assert second.deletes() == {packed("stray").hex(), packed("new").hex()}
    assert second.ledger.items.find(FILE.uri) is None


def test_a_file_whose_new_version_fails_after_a_kill_is_swept_when_one_comes_through(scene: Scene) -> None:
    second = other_runs(scene)
    second.parsed(second.begin(TOUCHED), 0, "failed", rule="damaged", message="torn")
    assert second.deletes() == set()
    third = again(scene)
    third.stray = ["stray", "new"]
    third.index(TOUCHED, "new")
    assert third.deletes() == {packed("stray").hex()}


def test_a_file_that_changes_after_every_process_died_is_swept_within_the_run(
    scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("now longer")
    found = replace(item(str(path), 3), uri=FILE.uri)
    scene.begin(found)
    scene.stray = ["stray", "new"]
    (job,) = scene.accounts.lost_all()
    scene.parsed(job, 0, "changed")
    job_again = scene.accounts.dispatch(scene.accounts.again.popleft())
    assert job_again is not None
    assert scene.deletes() == set()
    scene.segment(job_again, 0, "new")
    scene.parsed(job_again, 1)
    assert scene.deletes() == {packed("stray").hex()}


# What does not add up


@pytest.mark.parametrize(("segments", "chunks"), [(1, 2), (1, 0), (0, 0)])
def test_counts_that_differ_between_parser_and_database_are_an_error(
    scene: Scene, segments: int, chunks: int
) -> None:
    job = scene.begin(FILE)
    scene.segment(job, 0)
    end = FileEnd("parsed", "text", "text/plain", "hash", segments, chunks)
    border = "from the parser to the inference process"
    with pytest.raises(HandOverError, match=rf"{border}: {chunks} chunks .* 1 in 1 arrived \(/corpus/file"):
        scene.accounts.parsed(job.attempt, end)


@pytest.mark.parametrize("news_first", [True, False])
def test_a_segment_that_is_answered_for_more_chunks_than_it_had_is_an_error(
    scene: Scene, news_first: bool
) -> None:
    job = scene.begin(FILE)
    received = m.Received(job.attempt, 0, 1, 2, "parser-0")
    border = "from the inference process to the database"
    with pytest.raises(HandOverError, match=rf"{border}: 2 chunks of a segment left, 1 were answered"):
        if news_first:
            scene.accounts.received(received)
        scene.accounts.written(written(job, 0))
        scene.accounts.received(received)


def test_a_file_is_not_settled_before_the_news_that_its_segments_arrived(scene: Scene) -> None:
    job = scene.begin(FILE)
    scene.parsed(job, 1)
    scene.accounts.written(written(job, 0))
    assert scene.accounts.active == 1
    scene.accounts.received(m.Received(job.attempt, 0, 1, 1, "parser-0"))
    assert (scene.accounts.active, scene.counts.indexed) == (0, 1)


# Pruning


def test_prune_removes_what_left_the_corpus_below_the_roots_alone(scene: Scene) -> None:
    gone, elsewhere = (item(p, 100) for p in ("/corpus/gone", "/corpus-2/gone"))
    for found in (FILE, gone, elsewhere):
        scene.index(found, found.uri)
    second = again(scene)
    second.accounts.admit(FILE)
    for _ in second.accounts.prune(("/corpus/",)):
        pass
    assert second.counts.removed == 1
    assert second.deletes() == {packed("/corpus/gone").hex()}
    assert second.ledger.items.find("/corpus/gone") is None
    assert second.ledger.audit.totals() == {"files": 2, "records": 2}


def test_a_removed_file_that_comes_back_before_its_records_are_deleted_is_made_anew(scene: Scene) -> None:
    scene.index(FILE, "chunk")
    second = again(scene)
    for _ in second.accounts.prune(("/corpus/",)):
        pass
    third = again(scene)
    third.index(FILE, "chunk")
    assert third.deletes() == set()
    assert third.ledger.audit.totals() == {"files": 1, "records": 1}


def test_prune_with_nothing_below_its_roots_touches_nothing(scene: Scene) -> None:
    scene.index(FILE, "chunk")
    second = again(scene)
    for _ in second.accounts.prune(()):
        pass
    assert second.counts.removed == 0


def test_an_unreadable_file_that_was_indexed_keeps_its_records_and_is_looked_at_again(scene: Scene) -> None:
    scene.index(FILE, "chunk")
    second = again(scene)
    second.accounts.admit(Unreadable(FILE.uri, "permission denied"))
    assert second.counts.failed == 1
    assert second.deletes() == set()
    third = again(scene)
    job = third.begin(FILE)
    third.parsed(job, 0)
    assert (third.counts.indexed, third.failures()) == (1, [])
    assert third.ledger.items.get(1).item == FILE


def test_a_new_file_of_one_segment_costs_the_ledger_a_dozen_statements(scene: Scene) -> None:
    statements: list[str] = []
    scene.ledger._db.set_trace_callback(statements.append)
    job = scene.begin(FILE)
    scene.accounts.received(m.Received(job.attempt, 0, 1, 1, "parser-0"))
    scene.parsed(job, 1)
    scene.accounts.written(written(job, 0))
    scene.ledger._db.set_trace_callback(None)
    row = scene.ledger.items.find(FILE.uri)
    assert row is not None
    assert (row.state, row.kind, row.media_type, row.content_hash) == (
        "indexed", "text", "text/plain", "hash",
    )  # fmt: skip
    assert row.generation == PLANS["text"]
    assert len(statements) <= 12, statements


@pytest.mark.parametrize("parsed_first", [False, True])
def test_what_a_file_s_records_were_made_with_is_booked_with_the_first_of_them(
    scene: Scene, parsed_first: bool
) -> None:
    job = scene.begin(FILE)
    scene.accounts.received(m.Received(job.attempt, 0, 1, 1, "parser-0"))
    if parsed_first:
        scene.parsed(job, 2)
    scene.accounts.written(written(job, 0))
    row = scene.ledger.items.find(FILE.uri)
    assert row is not None
    assert (row.state, row.kind, row.generation) == ("pending", "text", PLANS["text"])
