import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filetype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine import parsers
from engine.errors import SkipFileError, UsageError
from engine.parsers.base import Format, Head, Parser
from engine.parsers.detection import Detector
from engine.parsers.image import ImageParser
from engine.records import Section, TextSection
from engine.registry import Registry
from tests.parsers.parsing import detect, parse
from tests.parsers.pdf_writer import Page, pdf

PICTURES = {
    b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBPVP8 ", b"RIFF\x10\0\0\0WAVEfmt ",
    b"GIF89a", b"II*\0\x08\0\0\0\0\0", b"MM\0*\0\0\0\x08CR", b"MM\0*\0\0\0\x08\0\0", b"BM\x10\0\0\0",
    b"II\xbc\x01",
}  # fmt: skip


def _write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"hello", "text/plain"),
        ("README.MD", b"# Title", "text/markdown"),
        ("a.py", b"print(1)", "text/x-python"),
        ("a.json", b"{}", "application/json"),
        ("a.html", b"<p>hello</p>", "text/html"),
        ("LICENSE", b"Apache", "text/plain"),
        ("a.unheard-of", b"words", "text/plain"),
        ("a.md", "Größe".encode("utf-16-le"), "text/markdown"),
    ],
)
def test_a_suffix_tells_one_kind_of_text_from_another(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    assert detect(_write(tmp_path, name, data)) == expected


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("notes.pdf", b"only notes", "text/plain"),
        ("notes.jpg", b"only notes", "text/plain"),
        ("page.html", b"no tags at all", "text/plain"),
        ("page.txt", b"\n<!-- a --> <!DOCTYPE html><html>", "text/html"),
        ("page", b"<?xml version='1.0'?>\n<!DOCTYPE html>", "text/html"),
        ("page.txt", "<html><body>".encode("utf-16"), "text/html"),
        ("car.txt", b"BMW builds cars", "text/plain"),
        ("exe.txt", b"MZ is how a program begins", "text/plain"),
        ("paper.txt", pdf([Page()]), "application/pdf"),
    ],
)
def test_content_wins_over_a_wrong_suffix(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    assert detect(_write(tmp_path, name, data)) == expected


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
def test_a_picture_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(out, kind)
    assert detect(_write(tmp_path, "picture.txt", out.getvalue())) == f"image/{kind}"


@pytest.mark.parametrize("kind", ["bmp", "tiff"])
@pytest.mark.parametrize("colour", ["white", "black", (141, 129, 127), (6, 189, 21), (148, 152, 148)])
def test_uncompressed_pixels_of_one_colour_are_no_text(tmp_path: Path, kind: str, colour: str) -> None:
    path = tmp_path / f"flat.{kind}"
    Image.new("RGB", (800, 600), colour).save(path)
    assert detect(str(path)) == f"image/{kind}"


def test_a_file_without_bytes_is_skipped_as_empty(tmp_path: Path) -> None:
    with pytest.raises(SkipFileError) as error:
        detect(_write(tmp_path, "a.txt", b""))
    assert error.value.rule == "empty"


def _archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "a" * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (_archive(), "application/zip"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "application/x-executable"),
        (bytes(range(256)) * 4, "binary"),
        (b"some text, then\0\0\0\1\0\2 garbage", "binary"),
        (b"{\\rtf1\\ansi hello}", "application/rtf"),
    ],
)
def test_what_no_parser_reads_is_skipped_with_its_type(tmp_path: Path, data: bytes, detail: str) -> None:
    with pytest.raises(SkipFileError) as error:
        detect(_write(tmp_path, "a.txt", data))
    assert (error.value.rule, error.value.detail) == ("unknown-type", detail)


def test_a_name_that_is_not_utf8_can_be_opened(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.md")
    with open(name, "wb") as file:
        file.write(b"# Title")
    assert detect(name) == "text/markdown"


def test_a_row_of_comments_is_told_from_a_page_at_once(tmp_path: Path) -> None:
    for end, media_type in ((" words", "text/plain"), ("<html>", "text/html"), ("<!-- <html>", "text/plain")):
        path = tmp_path / "a.txt"
        path.write_text("<!-- a -->\n" * 400 + end)
        assert detect(str(path)) == media_type


def test_an_animated_png_is_a_png(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert detect(str(path)) == "image/png"


@given(st.binary(max_size=60), st.sampled_from(sorted(PICTURES)), st.integers(0, 14))
def test_pictures_are_told_by_the_marks_that_the_library_knows(data: bytes, mark: bytes, at: int) -> None:
    head = mark[:at] + data
    known = filetype.guess_mime(head)
    declared = {"image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/bmp"}
    found = Detector(ImageParser.formats)._by_magic(Head(head, ""), "binary")
    assert found == ("image/png" if known == "image/apng" else known if known in declared else "")


class _Notebooks(Parser):
    name = "notebooks"
    formats = (Format("application/x-notebook", ("ipynb",), text=True),)
    kinds = frozenset({"text", "image"})

    def parse(self, *_: object) -> Iterator[Section]:
        yield TextSection(0, None, 0, "cells", "token", document="one")


def test_a_parser_of_another_package_adds_a_format_and_takes_its_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (*parsers._parsers(), _Notebooks())
    caches = (parsers._parsers, parsers._detector, parsers._parser_of)
    try:
        monkeypatch.setattr(parsers, "_parsers", lambda: both)
        for cached in caches[1:]:
            cached.cache_clear()
        path = tmp_path / "a.ipynb"
        path.write_text("{}")
        assert detect(path) == parsers.type_by_name("a.ipynb") == "application/x-notebook"
        assert parsers.kinds_of("application/x-notebook") == {"text", "image"}
        (section,) = parse("application/x-notebook", path)
        assert isinstance(section, TextSection)
        assert section.document == "one"
        assert parsers.suffixes("image") == ["jpg", "jpeg", "jpe", "png", "webp", "gif", "tif", "tiff", "bmp"]
    finally:
        for cached in caches[1:]:
            cached.cache_clear()


def test_a_type_that_no_parser_reads_is_an_error_that_names_the_parsers() -> None:
    with pytest.raises(UsageError, match="application/x-nothing: no parser reads it; parsers are text, mark"):
        parsers.kinds_of("application/x-nothing")


def test_a_parser_that_cannot_be_loaded_is_an_error_before_a_run_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = Registry("parsers", {"mine": "no_such_package.mine:Mine"}, {"mine": "pip install no-such"})
    monkeypatch.setattr(parsers, "PARSERS", broken)
    parsers._parsers.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"mine: .*no_such_package.*; pip install no-such"):
            parsers.check()
    finally:
        parsers._parsers.cache_clear()


def test_text_can_be_cut_short_and_stay_what_it_is() -> None:
    assert all(map(parsers.is_text, ["text/html", "text/markdown", "text/csv", "application/json", ""]))
    assert not any(map(parsers.is_text, ["application/pdf", "image/png", "image/tiff"]))
