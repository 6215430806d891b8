"""Of a progressive JPEG as many scans are decoded as the picture needs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import ParseError
from engine.parsers.image import decode as image
from engine.parsers.image import scans as jpeg
from engine.parsers.image.scans import (
    Component,
    Scan,
    Until,
    components,
    end_of_needed,
    more_scans_than,
    scans,
)
from engine.records import PictureSection, Pixels
from tests.parsers.test_image import _photo, _spec, parse


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


def likeness(pixels: Pixels, others: Pixels) -> float:
    """The cosine, after their mean is taken off."""
    a, b = (each - each.mean() for each in (pixels, others))
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


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
    found = scans(io.BytesIO(data))
    assert all(data[scan.begin : scan.begin + 2] == b"\xff\xda" for scan in found)
    # libjpeg's own script for colour (jcparam.c, jpeg_simple_progression).
    assert [(tuple(scan.components), scan.first, scan.high) for scan in found] == [
        ((1, 2, 3), 0, 0),
        *(((number,), first, 0) for number, first in ((1, 1), (3, 1), (2, 1), (1, 6))),
        ((1,), 1, 2),
        ((1, 2, 3), 0, 1),
        *(((number,), 1, 1) for number in (3, 2, 1)),
    ]


def test_a_file_is_left_where_it_was() -> None:
    file = io.BytesIO(saved())
    file.seek(7)
    scans(file)
    assert file.tell() == 7
    more_scans_than(file, 3)
    assert file.tell() == 7


def test_the_scans_of_a_thumbnail_are_not_the_pictures(tmp_path: Path, read: list[int]) -> None:
    thumbnail = saved(160, 120, progressive=False)
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail
    data = saved(exif=exif)
    assert thumbnail in data
    found = scans(io.BytesIO(data))
    assert len(found) == 10
    assert found[0].begin > data.index(thumbnail) + len(thumbnail)
    np.testing.assert_array_equal(decoded(tmp_path, data), decoded(tmp_path, saved()))
    assert len(read) == 2


def test_what_decoders_pass_over_between_segments_is_passed_over() -> None:
    data = saved()
    found = scans(io.BytesIO(data))
    comment = b"\xff\xfe\0\x10" + data[found[-1].begin :][:10] + b"\xff\xd9\0\0"
    for passed_over in (b"\xff\xff\xff", b"junk", b"\xff\0", b"\xff\xd0", b"\xff\x01", comment):
        for place in (2, found[3].begin):
            filled = scans(io.BytesIO(data[:place] + passed_over + data[place:]))
            more = [len(passed_over) if scan.begin >= place else 0 for scan in found]
            assert [scan.begin for scan in filled] == [
                scan.begin + n for scan, n in zip(found, more, strict=True)
            ]


def test_scans_that_cannot_be_told_for_certain_are_none() -> None:
    data = saved()
    third, fourth = (scan.begin for scan in scans(io.BytesIO(data))[2:4])
    tables = data[data.index(b"\xff\xdb") :][:69]
    assert scans(io.BytesIO(data[:third] + data[third:fourth] * 91 + data[fourth:]))
    for broken in (
        data[: fourth + 4] + b"\x09" + data[fourth + 5 :],
        data[:fourth] + tables + data[fourth:],
        data[:-2] + data,
        data[:third] + data[third:fourth] * 92 + data[fourth:],
        data[:fourth] + b"\xff\xfe\0\0" + data[fourth:],
    ):
        assert scans(io.BytesIO(broken)) == []


def test_a_markers_two_bytes_are_found_on_both_sides_of_a_blocks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(160, 120)
    found = scans(io.BytesIO(data))
    assert len(found) == 10
    for size in (1, 2, 3, 5):
        monkeypatch.setattr(jpeg, "_SEARCHED_BYTES", size)
        assert scans(io.BytesIO(data)) == found


def test_what_follows_a_pictures_end_is_not_looked_at(tmp_path: Path, read: list[int]) -> None:
    # As phones append a map of brightness, here with components of other numbers.
    data = saved(mode="L")
    expected = decoded(tmp_path, data)
    np.testing.assert_array_equal(decoded(tmp_path, data + saved(300, 200) + b"\xff\xda\xff"), expected)
    assert read[0] == read[1] < len(data)


def test_scans_of_unknown_components_are_damage_as_ever(tmp_path: Path) -> None:
    data = bytearray(saved())
    data[scans(io.BytesIO(data))[5].begin + 5] = 9
    for exact in (False, True):
        with pytest.raises(ParseError, match="broken data stream"):
            decoded(tmp_path, bytes(data), exact)


def test_no_scan_is_hidden_behind_a_marker_without_a_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(400, 300)
    first, last = (scans(io.BytesIO(data))[place].begin for place in (0, -1))
    hidden = data[first:-2] + data[last : last + 10] * 1000
    # Who takes the restart for a segment takes the first scan's marker for its length.
    bomb = data[:first] + b"\xff\xd0" + hidden.ljust(0xFFDA, b"\0") + data[last : last + 10] + b"\xff\xd9"
    monkeypatch.setattr(image, "MAX_SCANNED_PIXELS", 1000 * 400 * 300)
    for exact in (False, True):
        with pytest.raises(ParseError, match="refined by too many scans"):
            decoded(tmp_path, bomb, exact)


def test_absurdly_many_scans_are_gone_through_once() -> None:
    reads: list[int] = []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(len(block := super().read(size)))
            return block

    data = saved(8, 8)
    last = scans(io.BytesIO(data))[-1].begin
    bomb = data[:last] + data[last : last + 10] * 200_000 + data[last:]
    assert more_scans_than(Counted(bomb), 100_000)
    assert scans(Counted(bomb)) == []
    assert len(reads) < 1000
    assert sum(reads) < 10 * len(bomb)


@pytest.mark.parametrize(
    ("pixels", "first", "high", "step", "needed"),
    [
        (8, 0, 0, 50, True),
        (8, 63, 0, 50, True),
        (4, 25, 0, 1, False),
        (4, 24, 0, 1, True),
        (2, 5, 0, 1, False),
        (1, 2, 0, 1, False),
        (1, 1, 0, 1, True),
        (1, 0, 1, 4, True),
        (8, 1, 1, 3, False),
        (8, 1, 1, 4, True),
        (8, 1, 2, 1, False),
        (8, 1, 2, 2, True),
        (8, 1, 3, 1, True),
    ],
)
def test_a_scan_is_needed_by_its_frequencies_and_by_what_would_be_lacking(
    pixels: int, first: int, high: int, step: int, needed: bool
) -> None:
    component = Component(pixels, 99, step) if first else Component(pixels, step, 99)
    assert Scan(0, b"\x01", first, high).is_needed({1: component}) == needed
    assert Scan(0, b"\x02", first, high).is_needed({1: component})


def test_coarser_colours_are_scaled_down_less() -> None:
    tables = {0: list(range(64)), 1: [9] * 64}
    layers = [(1, 2, 2, 0), (2, 1, 1, 1), (3, 2, 1, 1), (4, 1, 1, 7)]
    for scale, pixels in ((1, 8), (2, 4), (4, 2), (8, 1)):
        assert components(layers, tables, scale) == {
            1: Component(pixels, 0, 8),
            2: Component(min(8, 2 * pixels), 9, 9),
            3: Component(pixels, 9, 9),
        }
    assert components([], tables, 2) == {}  # of a frame that says nothing of them


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("colours", [((200, 60, 60), (60, 120, 60)), ((240, 240, 240), (20, 20, 20))])
def test_detail_is_kept_at_an_eighth(
    tmp_path: Path,
    subsampling: str,
    colours: tuple[tuple[int, int, int], tuple[int, int, int]],
    read: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    down, across = np.mgrid[:1536, :1536] // 24
    squares = np.where(((down + across) % 2 == 0)[..., None], *colours).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(squares).save(file, "jpeg", progressive=True, quality=95, subsampling=subsampling)
    pixels = decoded(tmp_path, file.getvalue())
    assert len(read) == 1
    monkeypatch.setattr(jpeg, "end_of_needed", lambda *_: None)
    assert likeness(pixels, decoded(tmp_path, file.getvalue())) > 0.9998


def test_only_what_nothing_needed_follows_is_spared() -> None:
    known = {1: Component(8, 1, 1), 2: Component(8, 9, 9)}
    first, spared, needed = Scan(10, b"\1", 0, 0), Scan(20, b"\1", 1, 1), Scan(30, b"\2", 1, 1)
    assert end_of_needed([first, spared, needed], known) is None
    assert end_of_needed([first, needed, spared], known) == 20
    assert end_of_needed([first, spared, spared], known) == 20
    # The coarsest of its components decides.
    assert end_of_needed([first, Scan(40, b"\1\2", 0, 1)], known) is None
    assert end_of_needed([], known) is None


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("quality", [90, 95, 100])
def test_a_picture_of_fewer_scans_is_nearly_that_of_all(
    tmp_path: Path, mode: str, quality: int, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(mode=mode, quality=quality)
    pixels = decoded(tmp_path, data)
    assert len(read) == 1
    assert read[0] < 0.8 * len(data)
    monkeypatch.setattr(jpeg, "SPARED", -1)
    whole = decoded(tmp_path, data)
    assert np.abs(pixels.astype(int) - whole).mean() < 0.5
    assert likeness(pixels, whole) > 0.9998


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
        from engine.parsers.image.decode import prepare

        expected = prepare(picture, _spec((64, 64)))
    np.testing.assert_array_equal(decoded(tmp_path, data, exact=True), expected)
    assert read == []


def test_a_picture_whose_last_scans_are_missing_is_damaged_as_ever(tmp_path: Path, read: list[int]) -> None:
    data = saved()
    for kept in (len(data) - 2, len(data) // 2, scans(io.BytesIO(data))[-1].begin):
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
