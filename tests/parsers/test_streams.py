import os
import tracemalloc
import zlib
from pathlib import Path

import pytest

from engine.errors import ParseError
from engine.parsers.pdf import streams
from engine.parsers.pdf.streams import check_streams
from engine.parsers.reading import BLOCK_BYTES
from tests.hostile.pdf_parts import nested, one_page, stream
from tests.hostile.picture_parts import bomb
from tests.parsers.pdf_writer import Page, pdf

MEBIBYTE = 2**20


def _check(folder: Path, data: bytes) -> None:
    path = folder / "a.pdf"
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    try:
        check_streams(file)
    finally:
        os.close(file)


def _inflates_too_far(folder: Path, data: bytes) -> bool:
    try:
        _check(folder, data)
    except ParseError as error:
        assert error.error_type == "inflates-too-far"
        assert "more than 1 MiB" in str(error)
        return True
    return False


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_INFLATED_BYTES", MEBIBYTE)


def _deflated(size: int) -> bytes:
    return stream(zlib.compress(bytes(size)), b"/Filter /FlateDecode")


def test_a_stream_is_too_large_from_the_first_byte_beyond_the_limit(tmp_path: Path) -> None:
    assert not _inflates_too_far(tmp_path, one_page(_deflated(MEBIBYTE)))
    assert _inflates_too_far(tmp_path, one_page(_deflated(MEBIBYTE + 1)))


@pytest.mark.parametrize("levels", [2, 3, 8])
def test_a_stream_is_inflated_as_often_as_its_filters_say(tmp_path: Path, levels: int) -> None:
    assert _inflates_too_far(tmp_path, one_page(nested(levels, 2)))
    assert not _inflates_too_far(tmp_path, one_page(nested(levels, 1)))


def test_a_stream_in_hexadecimal_is_inflated_too(tmp_path: Path) -> None:
    packed = zlib.compress(bytes(2 * MEBIBYTE)).hex().encode() + b">"
    assert _inflates_too_far(tmp_path, one_page(stream(packed, b"/Filter [/AHx /Fl]")))


def test_pictures_may_be_as_large_as_they_like_for_nothing_decodes_them(tmp_path: Path) -> None:
    picture = stream(bomb(3), b"/Type /XObject /Subtype /Image /Filter /FlateDecode")
    assert not _inflates_too_far(tmp_path, one_page(stream(b"/I Do"), more={6: picture}))


def test_the_many_small_streams_of_a_document_are_no_bomb_together(tmp_path: Path) -> None:
    more = {number: _deflated(MEBIBYTE // 2) for number in range(6, 30)}
    assert not _inflates_too_far(tmp_path, one_page(stream(b""), more=more))
    _check(tmp_path, pdf([Page().text(72, 700, "plain")] * 50))


def test_data_that_only_begins_like_zlib_is_left_to_the_reader(tmp_path: Path) -> None:
    for data in (
        b"\x78\x9c",
        b"\x78\x9cnot zlib at all",
        b"\x78",
        b"",
        zlib.compress(bytes(9 * MEBIBYTE))[:20],
    ):
        assert not _inflates_too_far(tmp_path, one_page(stream(data, b"/Filter /FlateDecode")))


@pytest.mark.parametrize("shift", range(-8, 2))
def test_a_stream_is_found_across_the_border_of_two_blocks(tmp_path: Path, shift: int) -> None:
    head = b"%PDF-1.7\n6 0 obj\n<< /Filter /FlateDecode >>\n"
    body = b"stream\n" + zlib.compress(bytes(2 * MEBIBYTE)) + b"\nendstream"
    assert _inflates_too_far(tmp_path, head.ljust(BLOCK_BYTES + shift) + body)


def test_nothing_that_is_inflated_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_INFLATED_BYTES", 60 * MEBIBYTE)
    data = one_page(nested(2, 50))
    tracemalloc.start()
    _check(tmp_path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MEBIBYTE
