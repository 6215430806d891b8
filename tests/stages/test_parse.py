"""A file becomes segments whose ids depend on its content alone, wherever its parsing began."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine import parsers
from engine.chunkers.tokens import TokenChunker
from engine.errors import ParseError, SkipFileError
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec
from engine.parsers import sections
from engine.parsers import text as text_parser
from engine.parsers.reading import LocalFile, Opened, hash_content
from engine.records import Chunk, Section, SectionFailure, TextSection
from engine.sources.local import local_item
from engine.stages import parse as module
from engine.stages.parse import FileEnd, FileJob, Parsed, ParseStage
from engine.stages.segment import SUBS_PER_UNIT, Checkpoint, Segment, TextSegment
from tests.chunkers.tokenizers import texts
from tests.items import item

property_test = settings(
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

SPEC = resolve_text("stand-in:8")
IMAGES = resolve_image("stand-in:8")

#: Bytes of a segment where a test wants many of them.
SMALL_SEGMENT = 8_000


def stage(
    chunk_size: int | None = None, images: Callable[[], ImageSpec | None] = lambda: IMAGES
) -> ParseStage:
    return ParseStage(SPEC, TokenChunker(SPEC, chunk_size), images)


def job_of(path: Path | str, **more: object) -> FileJob:
    job = FileJob(1, replace(local_item(str(path)), uri=f"/corpus/{os.path.basename(path)}"))
    return replace(job, **more)  # type: ignore[arg-type]


def parsed(job: FileJob, of: ParseStage | None = None) -> tuple[list[Any], list[SectionFailure], FileEnd]:
    """The segments, the failures and the end, whose counts are those of the segments."""
    items: list[Parsed] = list((of or stage()).parse(job))
    segments = [item for item in items if isinstance(item, Segment)]
    failures = [item for item in items if isinstance(item, SectionFailure)]
    end = items[-1]
    assert isinstance(end, FileEnd)
    assert (end.segments, end.chunks) == (len(segments), sum(len(each.ids) for each in segments))
    return segments, failures, end


def prose(seed: int, words: int) -> str:
    chosen = random.Random(seed)
    return " ".join(
        "".join(chosen.choices("abcdefgh", k=chosen.randint(1, 9))) + chosen.choice(("", "", ".", "\n\n"))
        for _ in range(words)
    )


# Resuming


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text(prose(1, 90_000))
    return path


@pytest.fixture(scope="module")
def pages() -> list[TextSection]:
    """Sections of a document of pages: two on page 2, a gap in the units, one of blank space alone."""
    texts = [prose(2, 300), prose(3, 40), prose(4, 500), " \n ", prose(5, 120)]
    units, numbers, starts = (0, 1, 2, 4, 5), (1, 2, 2, 4, 5), (0, 0, 1000, 0, 0)
    return [
        TextSection(unit, page, start, text, f"after {unit}")
        for unit, page, start, text in zip(units, numbers, starts, texts, strict=True)
    ]


def give(monkeypatch: pytest.MonkeyPatch, sections: Sequence[Section]) -> None:
    """A parser that yields these sections, and goes on after any of them."""

    def parse(
        opened: Opened, media_type: str, options: object, resume: str | None = None
    ) -> Iterator[Section]:
        tokens = [None if isinstance(each, SectionFailure) else each.resume for each in sections]
        yield from sections[tokens.index(resume) + 1 if resume else 0 :]

    monkeypatch.setattr(parsers, "parse", parse)
    monkeypatch.setattr(module, "SEGMENT_BYTES", SMALL_SEGMENT)


def test_a_segment_says_which_document_it_is_from_and_what_stands_above_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows").write_text("anything")
    job = job_of(tmp_path / "rows")
    text = prose(2, 300)
    plain = TextSection(0, None, 0, text, "after 0")
    long = ("A", "b" * 2000)
    full = replace(
        plain,
        document="row 7",
        title="t" * 2000,
        headings=((0, ()), (100, ("Hive", "Queen")), (900, long)),
        fields={"year": 1901},
    )
    give(monkeypatch, [plain])
    (bare, *_), _, _ = parsed(job, stage(chunk_size=32))
    assert (bare.document, bare.title, bare.headings, bare.fields) == (None, None, [], {})
    give(monkeypatch, [full])
    segments, _, _ = parsed(job, stage(chunk_size=32))
    for segment in segments:
        assert (segment.document, segment.fields) == ("row 7", {"year": 1901})
        assert segment.title == "t" * 999 + "…"
        assert segment.size <= SMALL_SEGMENT + 2 * 3000
    starts = [start for segment in segments for start in segment.starts]
    headings = [each for segment in segments for each in segment.headings]
    assert headings[0] is None
    for start, above in zip(starts, headings, strict=True):
        expected = "Hive > Queen" if start < 900 else f"A > {'b' * 995}…"
        assert above == (expected if start >= 100 else None)
    # Another document's chunk is another record, though all else of it is the same.
    assert not set(bare.ids) & {one for segment in segments for one in segment.ids}


def chain(segments: Sequence[Segment], done: set[int]) -> tuple[int, str | None, frozenset[int]]:
    """`last`, `checkpoint` and `done` as the ledger tells them where these segments are acknowledged."""
    last, checkpoint = -1, None
    others: set[int] = set()
    for segment in segments:
        if segment.ordinal in done:
            if not others and segment.after == last:
                last, checkpoint = segment.ordinal, segment.checkpoint
            else:
                others.add(segment.ordinal)
    return last, checkpoint, frozenset(others)


def columns(segment: TextSegment) -> tuple[object, ...]:
    return (
        segment.ordinal, segment.after, segment.checkpoint, segment.page, segment.ids, segment.hashes,
        segment.starts, segment.ends, segment.texts, segment.lengths, segment.size,
    )  # fmt: skip


def test_a_document_is_cut_into_segments_of_bounded_size(
    book: Path, pages: list[TextSection], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, pages)
    segments, _, end = parsed(job_of(book), stage(16))
    assert end.outcome == "parsed"
    assert len(segments) > 10
    assert all(segment.size <= SMALL_SEGMENT for segment in segments)
    ordinals = [segment.ordinal for segment in segments]
    assert ordinals == sorted(set(ordinals))
    assert [segment.after for segment in segments] == [-1, *ordinals[:-1]]
    assert {ordinal // SUBS_PER_UNIT for ordinal in ordinals} == {0, 1, 2, 5}
    texts = {section.unit: section for section in pages}
    for segment in segments:
        section = texts[segment.ordinal // SUBS_PER_UNIT]
        assert segment.page == section.page
        for start, end_, text in zip(segment.starts, segment.ends, segment.texts, strict=True):
            assert section.text[start - section.start : end_ - section.start] == text
        assert segment.token_ids is not None
        assert len(segment.token_ids) == segment.tokens


@property_test
@given(st.data())
def test_a_resumed_parse_yields_exactly_what_remains(
    book: Path, pages: list[TextSection], data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        give(monkeypatch, pages)
        whole, _, _ = parsed(job_of(book), stage(16))
        first = data.draw(st.integers(0, len(whole)))
        done = {segment.ordinal for segment in whole[:first]}
        done |= set(data.draw(st.lists(st.sampled_from([segment.ordinal for segment in whole]))))
        last, checkpoint, others = chain(whole, done)
        resumed, _, end = parsed(job_of(book, last=last, checkpoint=checkpoint, done=others), stage(16))
    assert [columns(segment) for segment in resumed] == [
        columns(segment) for segment in whole if segment.ordinal not in done
    ]
    assert end.outcome == "parsed"


@property_test
@given(st.data())
def test_pages_that_failed_once_leave_nothing_out_when_they_are_readable_again(
    book: Path, pages: list[TextSection], data: st.DataObject
) -> None:
    """A few parses in which some sections fail and some segments get lost, then an undisturbed one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        give(monkeypatch, pages)
        whole, _, _ = parsed(job_of(book), stage(16))
        acknowledged: dict[int, TextSegment] = {}
        for _ in range(data.draw(st.integers(1, 3))):
            bad = data.draw(st.sets(st.sampled_from([section.unit for section in pages]), max_size=2))
            give(
                monkeypatch,
                [
                    SectionFailure(section.unit, section.page, "damaged-page", "no font")
                    if section.unit in bad
                    else section
                    for section in pages
                ],
            )
            rows = [acknowledged[ordinal] for ordinal in sorted(acknowledged)]
            last, checkpoint, others = chain(rows, set(acknowledged))
            if checkpoint is not None:
                resume = Checkpoint.loads(checkpoint).resume
                if resume in {f"after {unit}" for unit in bad}:
                    continue  # a page that was read before fails now: nothing of ours to resume after
            segments, _, _ = parsed(job_of(book, last=last, checkpoint=checkpoint, done=others), stage(16))
            taken = data.draw(st.lists(st.booleans(), min_size=len(segments), max_size=len(segments)))
            acknowledged |= {s.ordinal: s for s, keep in zip(segments, taken, strict=True) if keep}
        give(monkeypatch, pages)
        rows = [acknowledged[ordinal] for ordinal in sorted(acknowledged)]
        last, checkpoint, others = chain(rows, set(acknowledged))
        segments, _, _ = parsed(job_of(book, last=last, checkpoint=checkpoint, done=others), stage(16))
        acknowledged |= {segment.ordinal: segment for segment in segments}
    assert {ordinal: segment.ids for ordinal, segment in acknowledged.items()} == {
        segment.ordinal: segment.ids for segment in whole
    }


def test_a_text_file_goes_on_after_any_of_its_segments(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 150_000)
    whole, _, _ = parsed(job_of(book))
    assert {segment.ordinal // SUBS_PER_UNIT for segment in whole} == {0, 1, 2}
    assert max(segment.ordinal % SUBS_PER_UNIT for segment in whole) >= 2
    for number, segment in enumerate(whole):
        resumed, _, end = parsed(job_of(book, last=segment.ordinal, checkpoint=segment.checkpoint))
        assert [columns(each) for each in resumed] == [columns(each) for each in whole[number + 1 :]]
        assert end.outcome == "parsed"


# Failed sections


def test_any_text_goes_on_after_any_of_its_segments_with_the_same_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, name, value in (
        (sections, "MAX_SECTION_CHARS", 300),
        (text_parser, "MAX_SECTION_CHARS", 300),
        (sections, "LOOK_BACK_CHARS", 75),
        (text_parser, "BLOCK_BYTES", 256),
    ):
        monkeypatch.setattr(place, name, value)
    path = tmp_path / "any.txt"

    @property_test
    @given(text=texts, size=st.integers(10, 60), share=st.floats(0, 0.9), chosen=st.floats(0, 1))
    def holds(text: str, size: int, share: float, chosen: float) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        of = ParseStage(SPEC, TokenChunker(SPEC, size, int(share * (size - 2))), lambda: IMAGES)
        whole, _, _ = parsed(job_of(path), of)
        if whole:
            number = int(chosen * (len(whole) - 1))
            last = whole[number]
            resumed, _, _ = parsed(job_of(path, last=last.ordinal, checkpoint=last.checkpoint), of)
            assert [columns(each) for each in resumed] == [columns(each) for each in whole[number + 1 :]]
        names = [name for segment in whole for name in segment.ids]
        assert len(set(names)) == len(names)

    holds()


def test_a_failed_page_is_told_in_its_place_and_the_others_are_parsed(
    book: Path, pages: list[TextSection], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = SectionFailure(1, 2, "damaged-page", "no font")
    give(monkeypatch, [pages[0], failure, pages[2]])
    segments, failures, end = parsed(job_of(book), stage(16))
    assert (failures, end.outcome) == ([failure], "parsed")
    first_after = next(each for each in segments if each.ordinal >= 2 * SUBS_PER_UNIT)
    assert first_after.after not in {each.ordinal for each in segments}


def test_a_document_of_failed_pages_alone_is_not_without_text(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, [SectionFailure(0, 1, "damaged-page", "no font")])
    assert parsed(job_of(book))[2].outcome == "parsed"


# Ids


class Placed(TokenChunker):
    """Chunks whose vectors depend on where they stand, or on nothing."""

    place: str | None = None

    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        for chunk in super().chunks(section):
            yield replace(chunk, context=self.place)


def test_what_a_vector_depends_on_besides_its_text_is_part_of_its_id_and_goes_along(tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_text(prose(7, 400))
    chunker = Placed(SPEC, 16)
    of = ParseStage(SPEC, chunker, lambda: None)
    found = {}
    for chunker.place in (None, "aa", "bb"):
        (segment,) = parsed(job_of(path), of)[0]
        assert segment.contexts == ([] if chunker.place is None else [chunker.place] * len(segment.ids))
        found[chunker.place] = set(segment.ids)
    assert found[None] == {each for segment in parsed(job_of(path), stage(16))[0] for each in segment.ids}
    assert len(set.union(*found.values())) == 3 * len(found[None])


def test_ids_are_the_same_each_time_and_in_each_place_of_the_machine(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "poem.txt").write_text(prose(7, 400))
    os.utime(tmp_path / "a" / "poem.txt", (1, 1))
    first, second = (parsed(job_of(tmp_path / folder / "poem.txt"))[0] for folder in "ab")
    assert [each.ids for each in first] == [each.ids for each in second]


def test_ids_differ_by_source_position_chunker_and_model(tmp_path: Path) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("one and the same words. \n\n" * 60)
    job = job_of(path)
    of_other_model = ParseStage(replace(SPEC, digest="another"), TokenChunker(SPEC, 16), lambda: None)
    sets = [
        [record for segment in segments for record in segment.ids]
        for segments in (
            parsed(job, stage(16))[0],
            parsed(replace(job, item=replace(job.item, uri="/corpus/other")), stage(16))[0],
            parsed(job, stage(17))[0],
            parsed(job, of_other_model)[0],
        )
    ]
    everything = [record for records in sets for record in records]
    assert len(set(everything)) == len(everything)


# What becomes of odd files


def end_of(path: Path, **more: object) -> tuple[str, str]:
    end = parsed(job_of(path, **more))[2]
    return end.outcome, end.rule


def test_a_file_that_is_written_to_while_it_is_read_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(prose(1, 100))
    items = stage().parse(job_of(path))
    assert isinstance(next(items), Segment)
    with open(path, "a") as file:
        file.write("one line more")
    end = list(items)[-1]
    assert isinstance(end, FileEnd)
    assert end.outcome == "changed"


def test_a_file_that_is_other_than_it_was_found_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")
    assert end_of(path, item=replace(local_item(str(path)), version="1")) == ("changed", "")
    assert end_of(path, item=replace(local_item(str(path)), size=1)) == ("changed", "")


def test_a_file_that_is_damaged_because_it_is_being_written_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "red").save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert end_of(path)[0] == "failed"
    assert end_of(path, item=replace(local_item(str(path)), size=1))[0] == "changed"
    path.write_bytes(b"")
    assert end_of(path, item=replace(local_item(str(path)), size=9))[0] == "changed"


def test_a_file_that_vanished_has_failed_as_unreadable(tmp_path: Path) -> None:
    end = parsed(FileJob(1, item(f"{tmp_path}/gone", 5)))[2]
    assert (end.outcome, end.rule, end.message) == ("failed", "unreadable", "no such file or directory")


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("archive.bin", bytes(range(256)) * 20, "unknown-type"),
        ("renamed.txt", b"PK\x03\x04" + bytes(200), "unknown-type"),
        ("blank.txt", b" \n\t\n ", "no-text"),
        ("empty.txt", b"", "empty"),
    ],
)
def test_a_file_without_anything_to_embed_is_skipped_by_its_rule(
    tmp_path: Path, name: str, data: bytes, rule: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert end_of(tmp_path / name) == ("skipped", rule)


def test_what_no_parser_reads_is_skipped_after_a_look_at_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\1\2\3\xff\xfe")
    os.truncate(path, 2**40)  # a terabyte of nothing, which would take an hour to read
    segments, _, end = parsed(job_of(path))
    assert (segments, end.outcome, end.rule) == ([], "skipped", "unknown-type")
    assert (end.bytes_read, end.content_hash) == (0, "")


def test_a_file_of_known_content_is_unchanged_and_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")
    segments, _, end = parsed(job_of(path, known_hash=hash_content(LocalFile(str(path)))))
    assert (segments, end.outcome, end.bytes_read) == ([], "unchanged", 9)
    assert parsed(job_of(path, known_hash="of another content"))[2].outcome == "parsed"


def test_a_file_of_which_everything_is_done_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")
    (segment,), _, _ = parsed(job_of(path))
    for done in (
        {"last": segment.ordinal, "checkpoint": segment.checkpoint},
        {"done": frozenset({segment.ordinal})},
    ):
        assert end_of(path, **done) == ("parsed", "")


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("deep"), ZeroDivisionError()])
def test_whatever_a_library_raises_fails_the_file_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")

    def parse(*_: object) -> Iterator[Section]:
        yield TextSection(0, None, 0, "some text", "token")
        raise error

    monkeypatch.setattr(parsers, "parse", parse)
    segments, _, end = parsed(job_of(path))
    assert (len(segments), end.outcome, end.rule) == (1, "failed", "parser-error")
    assert end.message == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ParseError("damaged", "torn"), ("failed", "damaged", "torn")),
        (SkipFileError("encrypted", "by its owner"), ("skipped", "encrypted", "by its owner")),
        (PermissionError(13, "Permission denied"), ("failed", "unreadable", "permission denied")),
        (MemoryError(), ("failed", "out-of-memory", "parsing needs more than --parser-memory")),
    ],
)
def test_each_kind_of_trouble_has_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: tuple[str, str, str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")

    def parse(*_: object) -> Iterator[Section]:
        if error:
            raise error
        yield TextSection(0, None, 0, "", "")

    monkeypatch.setattr(parsers, "parse", parse)
    end = parsed(job_of(path))[2]
    assert (end.outcome, end.rule, end.message) == expected


def test_what_the_caller_raises_for_the_image_model_is_the_caller_s_own(tmp_path: Path) -> None:
    class Cancelled(Exception):  # noqa: N818 - as the parser process has it
        pass

    def cancel() -> ImageSpec:
        raise Cancelled

    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(Cancelled):
        parsed(job_of(path), stage(images=cancel))


# Pictures


def test_a_picture_is_one_segment_of_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    (segment,), _, end = parsed(job_of(path))
    assert (end.kind, end.media_type, end.content_hash) == (
        "image",
        "image/png",
        hash_content(LocalFile(str(path))),
    )
    assert segment.pixels is not None
    assert segment.pixels.shape == (*IMAGES.size, 3)
    assert np.array_equal(segment.pixels[0, 0], [255, 0, 0])
    assert (segment.hashes, segment.tokens) == ([hash_content(LocalFile(str(path)))], 0)
    assert segment.size > segment.pixels.nbytes


def test_a_picture_that_was_replaced_after_it_was_hashed_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 10), "red").save(path)
    job = job_of(path)

    def hashed(opened: Opened, *rest: object) -> str:
        content = hash_content(opened)
        Image.new("RGB", (30, 30), "blue").save(path)
        return content

    monkeypatch.setattr("engine.parsers.image.decode.hash_content", hashed)
    segments, _, end = parsed(job)
    assert (segments, end.outcome) == ([], "changed")


def test_a_picture_s_id_does_not_depend_on_how_texts_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    assert parsed(job_of(path), stage(16))[0][0].ids == parsed(job_of(path), stage(32))[0][0].ids


def test_a_picture_without_an_image_model_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.new("RGB", (30, 20), "red").save(path)
    end = parsed(job_of(path), stage(images=lambda: None))[2]
    assert (end.outcome, end.rule) == ("skipped", "no-images")


def test_the_image_model_is_not_asked_for_before_the_first_picture(tmp_path: Path) -> None:
    def never() -> ImageSpec:
        raise AssertionError("asked for")

    path = tmp_path / "a.txt"
    path.write_text("some text")
    assert parsed(job_of(path), stage(images=never))[2].outcome == "parsed"
