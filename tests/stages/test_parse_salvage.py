"""Progress inside of a file, what is salvaged of a damaged one, and where a resumed parse begins to read."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.chunkers.tokens import TokenChunker
from engine.models.resolve import resolve_image, resolve_text
from engine.parsers.pdf import pages as pdf_parser
from engine.parsers.reading import LocalFile, hash_content
from engine.parsers.sections import encodable
from engine.records import SectionFailure
from engine.sources.local import local_item
from engine.stages.parse import FileEnd, FileJob, ParseStage
from engine.stages.segment import Segment
from tests.hostile.picture_parts import photo, saved
from tests.parsers.pdf_writer import Page, pdf

SPEC = resolve_text("stand-in:8")
IMAGES = resolve_image("stand-in:8")

TEXT = "Größe und Länge, "


def parsed(
    path: Path, done: Segment | None = None, known_hash: str | None = None, **options: Any
) -> list[Any]:
    """Everything that the stage makes of a file, or what it makes after the segment that is done."""
    stage = ParseStage(SPEC, TokenChunker(SPEC), lambda: IMAGES, **options)
    job = FileJob(1, replace(local_item(str(path)), uri="/corpus/file"), known_hash)
    if done is not None:
        job = replace(job, last=done.ordinal, checkpoint=done.checkpoint)
    return list(stage.parse(job))


def end_of(path: Path, **options: Any) -> FileEnd:
    """How its parsing ends."""
    end = parsed(path, **options)[-1]
    assert isinstance(end, FileEnd)
    return end


def signs(path: Path, known_hash: str | None = None) -> int:
    """How often the stage tells of progress."""
    count = 0

    def on_progress(share: float | None = None) -> None:
        nonlocal count
        count += 1

    parsed(path, known_hash=known_hash, on_progress=on_progress)
    return count


# Progress


def _frames(count: int) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("L", (4, 4), i) for i in range(count)]
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:])
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "make", "each"),
    [
        ("scan.pdf", lambda n: pdf([Page()] * n), 1),
        ("book.pdf", lambda n: pdf([Page().text(72, 700, "words")] * n), 1),
        ("frames.tiff", _frames, 1),
        # Hashed in blocks of 1 MiB and decoded in blocks of 128 KiB.
        ("long.txt", lambda n: b"words\n" * (n * 2**20 // 6), 9),
        # Hashed in blocks of 1 MiB; read in blocks of 128 KiB, and once more to look for the main text.
        ("long.html", lambda n: b"<html>words" + b"<!-- words -->" * (n * 2**20 // 14 - 1), 17),
    ],
)
def test_every_page_frame_and_block_is_a_sign_of_progress_whatever_comes_of_it(
    tmp_path: Path, name: str, make: Callable[[int], bytes], each: int
) -> None:
    counts = []
    for size in (2, 7):
        (tmp_path / name).write_bytes(make(size))
        counts.append(signs(tmp_path / name))
    assert counts[1] - counts[0] == 5 * each


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("book.pdf", lambda: pdf([Page().text(72, 700, "words")] * 10)),
        ("long.txt", lambda: b"words\n" * 2**18),
    ],
)
def test_texts_and_pdfs_say_what_share_has_been_read(
    tmp_path: Path, name: str, make: Callable[[], bytes]
) -> None:
    shares: list[float] = []

    def on_progress(share: float | None = None) -> None:
        if share is not None:
            shares.append(share)

    (tmp_path / name).write_bytes(make())
    parsed(tmp_path / name, on_progress=on_progress)
    assert len(shares) >= 10
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] >= 0.9


def test_a_file_of_known_content_shows_progress_while_it_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"text " * 2**20)
    assert signs(path, hash_content(LocalFile(str(path)))) == 5


# Text


def test_characters_that_could_not_be_decoded_are_counted_and_those_in_the_file_are_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.txt"
    # NULs are taken for text's only behind its first 8 KiB.
    path.write_bytes(
        (TEXT * 800).encode() + b"\xff \xc3( \xe2\x82." + "\ufffd\ufffd ".encode() + b"\0 the end"
    )
    end = end_of(path)
    assert (end.outcome, end.replaced) == ("parsed", 3)


def test_wide_text_counts_its_lone_surrogates(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe" + (TEXT * 40).encode("utf-16-le") + b"\x00\xd8a\0" * 7)
    assert end_of(path).replaced == 7


def test_a_page_is_decoded_with_replacement_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_bytes(f"<html><meta charset=utf-8><p>{TEXT * 40}".encode() + b"\xff\xff</p>")
    items = parsed(path)
    assert items[-1].replaced == 2
    assert "\ufffd\ufffd" in items[0].texts[-1]


@settings(database=None, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"\xff", b"\xe2\x82", b"\xf0\x9f", b"\xed\xa0\x80", "ß".encode(), b"a "])))
def test_text_with_broken_bytes_is_what_the_replacing_decoder_makes_of_it(
    tmp_path: Path, pieces: list[bytes]
) -> None:
    data = (TEXT * 100).encode() + b"".join(pieces[:8]) + b"end"
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    *segments, end = parsed(path)
    expected = encodable(data.decode("utf-8", "replace"))
    for segment in segments:
        for start, stop, text in zip(segment.starts, segment.ends, segment.texts, strict=True):
            assert text == expected[start:stop]
    assert end.replaced == expected.count("\ufffd")


def test_each_replaced_character_is_counted_by_the_attempt_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"".join(f"{i}: {TEXT * 4}".encode() + b"\xff\n" for i in range(12_000)))
    *segments, whole = parsed(path)
    assert whole.replaced == 12_000
    assert len(segments) > 3
    counts = []
    for segment in segments:
        counts.append(parsed(path, segment)[-1].replaced)
    read = sum(text.count("\ufffd") for text in segments[0].texts)
    assert counts[0] == whole.replaced - read
    assert counts[-1] == 0
    assert counts == sorted(counts, reverse=True)


# Pictures


@pytest.mark.parametrize(
    ("suffix", "takes"),
    [("jpg", True), ("png", True), ("gif", True), ("tiff", True), ("bmp", True), ("webp", False)],
)
def test_a_truncated_picture_names_the_option_that_would_take_it(
    tmp_path: Path, suffix: str, takes: bool
) -> None:
    path = tmp_path / f"a.{suffix}"
    data = saved(suffix)
    path.write_bytes(data[: len(data) * 3 // 4])
    end = end_of(path)
    assert (end.outcome, end.rule, end.truncated) == ("failed", "damaged-image", 0)
    assert ("--tolerate-truncated" in end.message) is takes
    end = end_of(path, tolerate_truncated=True)
    assert (end.outcome, end.truncated, end.chunks) == (("parsed", 1, 1) if takes else ("failed", 0, 0))


def test_a_picture_of_which_nothing_is_there_fails_with_the_option_too(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved("png")[:45])
    for tolerate in (False, True):
        end = end_of(path, tolerate_truncated=tolerate)
        assert (end.outcome, end.truncated) == ("failed", 0)
        assert "--tolerate-truncated" not in end.message


def test_a_whole_picture_is_not_counted_as_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(saved("jpg"))
    assert end_of(path, tolerate_truncated=True).truncated == 0


def test_of_a_truncated_tiff_its_whole_frames_are_taken_and_the_rest_where_that_is_tolerated(
    tmp_path: Path,
) -> None:
    frames = [photo(40 + i, 30) for i in range(5)]
    path = tmp_path / "a.tiff"
    path.write_bytes(saved("tiff", frames[0], save_all=True, append_images=frames[1:])[:-1000])
    items = parsed(path)
    (failure,) = (item for item in items if isinstance(item, SectionFailure))
    assert failure.page == 5
    assert "--tolerate-truncated" in failure.message
    assert sum(isinstance(item, Segment) for item in items) == 4
    items = parsed(path, tolerate_truncated=True)
    assert sum(isinstance(item, Segment) for item in items) == 5
    assert items[-1].truncated == 1


# Checkpoints


def test_a_resumed_document_does_not_load_the_pages_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf([Page().text(72, 700, f"page {number}") for number in range(250)]))
    *segments, _ = parsed(path)
    assert len(segments) == 250
    loaded: list[int] = []
    load = pdf_parser._page_text

    def noting(document: Any, index: int) -> Any:
        loaded.append(index)
        return load(document, index)

    monkeypatch.setattr(pdf_parser, "_page_text", noting)
    for done in (0, 98, 99, 100, 180, 249):
        loaded.clear()
        *rest, end = parsed(path, segments[done])
        assert loaded == list(range(done + 1, 250))
        assert [segment.ids for segment in rest] == [segment.ids for segment in segments[done + 1 :]]
        assert end.outcome == "parsed"


def test_a_resumed_text_is_not_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("".join(f"line {number} of the log\n" for number in range(200_000)))
    *segments, _ = parsed(path)
    reads: list[int] = []
    parsed(path, segments[-2], on_progress=lambda share=None: reads.append(1))
    whole = signs(path)
    hashed = -(-path.stat().st_size // 2**20)
    assert len(reads) - hashed <= 4 < whole - hashed
