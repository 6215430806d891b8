"""Of a progressive JPEG as many scans are decoded as the picture needs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import ParseError
from engine.parsers import jpeg
from engine.parsers.image import parse
from engine.parsers.jpeg import Scan, Until, end_of_needed, scans
from engine.records import PictureSection, Pixels
from tests.parsers.test_image import _photo, _spec


def saved(width: int = 1200, height: int = 900, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"progressive": True, "quality": 95} | options
    _photo(width, height).convert(mode).save(file, "jpeg", **options)
    return file.getvalue()


def decoded(tmp_path: Path, data: bytes, exact: bool = False, tolerate_truncated: bool = False) -> Pixels:
    path = tmp_path / "picture.jpg"
    path.write_bytes(data)
    (section,) = parse(str(path), "image/jpeg", _spec((64, 64)), exact, tolerate_truncated)
    assert isinstance(section, PictureSection)
    return section.pixels


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ends of the JPEGs that were cut short."""
    ends: list[int] = []

    class Noted(Until):
        def __init__(self, file: Any, end: int) -> None:
            ends.append(end)
            super().__init__(file, end)

    monkeypatch.setattr(jpeg, "Until", Noted)
    return ends


def test_scans_are_found_where_they_stand_and_as_the_standard_tells_of_them() -> None:
    data = saved()
    found, whole = scans(io.BytesIO(data), 100)
    assert whole
    assert all(data[scan.begin : scan.begin + 2] == b"\xff\xda" for scan in found)
    # libjpeg's own script for colour (jcparam.c, jpeg_simple_progression).
    assert [(tuple(scan.components), scan.first, scan.high) for scan in found] == [
        ((1, 2, 3), 0, 0),
        *(((number,), first, 0) for number, first in ((1, 1), (3, 1), (2, 1), (1, 6))),
        ((1,), 1, 2),
        ((1, 2, 3), 0, 1),
        *(((number,), 1, 1) for number in (3, 2, 1)),
    ]
    assert scans(io.BytesIO(data), 4) == (found[:4], False)


def test_the_scans_of_a_thumbnail_are_not_the_pictures(tmp_path: Path, read: list[int]) -> None:
    thumbnail = saved(160, 120, progressive=False)
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    data = saved(exif=exif)
    assert thumbnail in data
    found, whole = scans(io.BytesIO(data), 100)
    assert (len(found), whole) == (10, True)
    assert found[0].begin > data.index(thumbnail) + len(thumbnail)
    np.testing.assert_array_equal(decoded(tmp_path, data), decoded(tmp_path, saved()))
    assert len(read) == 2


def test_bytes_between_markers_are_passed_over_and_what_is_no_marker_hides_no_scan() -> None:
    data = saved()
    filled = data[:2] + b"\xff\xff\xff" + data[2:]
    found, whole = scans(io.BytesIO(filled), 100)
    assert (len(found), whole) == (10, True)
    found, whole = scans(io.BytesIO(data[:2] + b"junk" + data[2:]), 100)
    assert (len(found), whole) == (10, False)
    # Neither does a scan whose own header is broken.
    broken = bytearray(data)
    at = scans(io.BytesIO(data), 100)[0][3].begin
    broken[at + 4] = 9
    found, whole = scans(io.BytesIO(bytes(broken)), 100)
    assert (len(found), whole) == (10, False)


@pytest.mark.parametrize(
    ("scale", "first", "high", "step", "needed"),
    [
        (1, 0, 0, 50, True),
        (1, 63, 0, 50, True),
        (2, 25, 0, 1, False),
        (2, 24, 0, 1, True),
        (4, 5, 0, 1, False),
        (8, 1, 0, 1, False),
        (8, 0, 1, 4, True),
        (1, 1, 1, 3, False),
        (1, 1, 1, 4, True),
        (1, 1, 2, 1, False),
        (1, 1, 2, 2, True),
        (1, 1, 3, 1, True),
    ],
)
def test_a_scan_is_needed_by_its_frequencies_and_by_what_would_be_lacking(
    scale: int, first: int, high: int, step: int, needed: bool
) -> None:
    assert Scan(0, b"\x01", first, high).is_needed(scale, {1: (step, step)}) == needed


def test_only_what_nothing_needed_follows_is_spared() -> None:
    steps = {1: (1, 1), 2: (9, 9)}
    first, spared, needed = Scan(10, b"\1", 0, 0), Scan(20, b"\1", 1, 1), Scan(30, b"\2", 1, 1)
    assert end_of_needed([first, spared, needed], 1, steps) is None
    assert end_of_needed([first, needed, spared], 1, steps) == 20
    assert end_of_needed([first, spared, spared], 1, steps) == 20
    # The coarsest of its components decides.
    assert end_of_needed([first, Scan(40, b"\1\2", 0, 1)], 1, steps) is None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [90, 95, 100])
def test_a_picture_of_fewer_scans_is_nearly_that_of_all(
    tmp_path: Path, mode: str, quality: int, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(mode=mode, quality=quality)
    pixels = decoded(tmp_path, data).astype(float)
    assert len(read) == 1
    assert read[0] < 0.8 * len(data)
    monkeypatch.setattr(jpeg, "SPARED", -1)
    whole = decoded(tmp_path, data).astype(float)
    assert np.abs(pixels - whole).mean() < 0.5
    a, b = (each - each.mean() for each in (pixels, whole))
    assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > 0.9998


@pytest.mark.parametrize(
    "options",
    [{"quality": 60}, {"progressive": False}, {"width": 300, "height": 180}],
    ids=["coarse", "baseline", "not to become small"],
)
def test_others_are_decoded_whole(tmp_path: Path, options: dict[str, Any], read: list[int]) -> None:
    decoded(tmp_path, saved(**options))
    assert read == []


def test_exact_pictures_are_decoded_whole(tmp_path: Path, read: list[int]) -> None:
    data = saved()
    with Image.open(io.BytesIO(data)) as picture:
        from engine.parsers.image import prepare

        expected = prepare(picture, _spec((64, 64)))
    np.testing.assert_array_equal(decoded(tmp_path, data, exact=True), expected)
    assert read == []


def test_a_picture_whose_last_scans_are_missing_is_damaged_as_ever(tmp_path: Path, read: list[int]) -> None:
    data = saved()
    for kept in (len(data) - 2, len(data) // 2, scans(io.BytesIO(data), 100)[0][-1].begin):
        with pytest.raises(ParseError, match="it ends too early"):
            decoded(tmp_path, data[:kept])
        assert decoded(tmp_path, data[:kept], tolerate_truncated=True).shape == (64, 64, 3)
    assert read == []


def test_a_file_that_ends_sooner_reads_like_one() -> None:
    short = Until(io.BytesIO(b"0123456789"), 4)
    assert short.readable()
    assert (short.read(3), short.tell(), short.read(3)) == (b"012", 3, b"3")
    assert (short.read(1), short.read(9), short.read(9)) == (b"\xff", b"\xd9", b"")
    assert (short.seek(1), short.read()) == (1, b"123\xff\xd9")
    assert (short.seek(0), short.seek(2, io.SEEK_CUR), short.read(1)) == (0, 2, b"2")
