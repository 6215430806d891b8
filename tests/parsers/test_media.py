import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from engine.errors import SkipFileError
from tests.parsers.parsing import detect
from tests.parsers.pdf_writer import Page, pdf


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
