"""A run's page in a real browser: what it shows, by day and by night, and under a pointer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from engine.report.page import page
from engine.runtime.report.record import RunRecord
from engine.runtime.report.series import Sample
from engine.runtime.report.summary import Chunks, Files, Memory, PlannedMemory, Summary, Totals
from tests.browser import Page, browser

MIB = 2**20

SUMMARY = Summary(
    status="complete_with_failures",
    exit_code=3,
    run=1,
    seconds=61.0,
    files=Files(discovered=2190, indexed=2000, partial=1, unchanged=100, skipped=87, failed=2),
    chunks=Chunks(text=40_000, image=30, indexed=40_030),
    totals=Totals(files=2101, records=48_000),
    memory=Memory(8192 * MIB, "--max-ram", PlannedMemory(
        parts={"supervisor": 80 * MIB, "parsers": 2128 * MIB, "inference": 500 * MIB, "in flight": 384 * MIB},
    )),
    peak_pss_bytes={"supervisor": 60 * MIB, "parsers": 160 * MIB, "inference": 560 * MIB, "total": 790 * MIB},
    peak_in_flight_bytes=20 * MIB,
)  # fmt: skip


def record() -> RunRecord:
    samples = [
        Sample(
            seconds=float(second),
            tokens=58_000.0 * max(0, second - 8),
            images=0.0,
            records=700.0 * max(0, second - 10),
            parsers_s=0.9 * second,
            model_s=0.95 * max(0, second - 8),
            database_s=0.1 * max(0, second - 10),
            in_flight=20.0 * MIB,
            supervisor=60.0 * MIB,
            parsers=160.0 * MIB,
            inference=560.0 * MIB,
            indexer=200.0 * MIB,
        )
        for second in range(61)
    ]
    failures, skipped = {"parse: damaged-pdf": 2, "index: refused": 1}, {"hidden": 80, "unknown-type": 7}
    place = ("/data/runs/0a1b2c", 1, False, SUMMARY, samples, 256 * MIB, 0.0)
    return RunRecord(*place, None, failures, skipped)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(page(record()), encoding="utf-8")
    with browser(folder / "profile") as opened:
        opened.open(folder / "report.html")
        yield opened


def tile(shown: Page, words: str) -> list[str]:
    """The lines of the tile in which these words stand."""
    all_tiles = "[...document.querySelectorAll('.tile')]"
    text = shown.value(f"{all_tiles}.map(tile => tile.innerText).find(text => text.includes('{words}'))")
    return [line for line in str(text).split("\n") if line]


def test_the_tiles_say_how_it_ended_and_what_became_of_the_files(shown: Page) -> None:
    assert tile(shown, "Exit code") == ["complete with failures", "Exit code 3, after 61.0 s."]
    assert tile(shown, "files found") == [
        "2,190", "files found",
        "2,000", "indexed", "100", "unchanged", "87", "skipped", "2", "failed", "1", "partial",
    ]  # fmt: skip
    assert tile(shown, "records in the index")[:2] == ["48,000", "records in the index"]
    assert tile(shown, "failures")[:2] != tile(shown, "damaged")[:2] == ["3", "failures"]
    assert tile(shown, "unknown-type") == ["87", "skipped", "80", "hidden", "7", "unknown-type"]


def test_nothing_lies_outside_of_the_page_or_over_something_else(shown: Page) -> None:
    for width in (1200, 960, 360):
        shown(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        assert shown.value("document.documentElement.scrollWidth") <= width
        boxes = shown.value(
            "[...document.querySelectorAll('.tile')].map(tile => tile.getBoundingClientRect())"
            ".map(box => [box.left, box.top, box.right, box.bottom])"
        )
        for place, (left, top, right, bottom) in enumerate(boxes):
            for other_left, other_top, other_right, other_bottom in boxes[:place]:
                beside = left >= other_right or right <= other_left
                assert beside or top >= other_bottom or bottom <= other_top
    shown("Emulation.setDeviceMetricsOverride", width=960, height=800, deviceScaleFactor=1, mobile=False)


def test_a_pointer_over_a_chart_shows_the_values_there(shown: Page) -> None:
    visible = (
        "[...document.querySelectorAll('.at text')]"
        ".filter(text => getComputedStyle(text).visibility == 'visible').map(text => text.textContent)"
    )
    shown.point_at(1, 1)
    assert shown.value(visible) == []
    shown.value("document.querySelectorAll('svg')[2].scrollIntoView()")
    left, top, width, height = shown.value(
        "(box => [box.left, box.top, box.width, box.height])"
        "(document.querySelectorAll('svg')[2].getBoundingClientRect())"
    )
    shown.point_at(left + width / 2, top + height / 2)
    (text,) = shown.value(visible)
    # The middle of the picture is left of the middle of the 59 seconds, because of the numbers at the axis.
    assert text == "27 s: parsers 0.9, inference 0.95, database 0.1 processes"
    shown.point_at(left + 1, top + height / 2)
    assert shown.value(visible) == []


def test_it_is_dark_where_the_user_prefers_that_and_can_be_read_in_both(shown: Page) -> None:
    def brightness(what: str, of: str) -> float:
        colour = shown.value(f"getComputedStyle(document.querySelector('{what}')).{of}")
        return sum(float(part) for part in colour.strip("rgb()").split(",")[:3]) / (3 * 255)

    papers = {}
    for dark in (False, True):
        shown.dark(dark)
        papers[dark] = brightness("body", "backgroundColor")
        for words, of in (
            ("body", "color"),
            (".note", "color"),
            (".tile b", "color"),
            ("polyline", "stroke"),
        ):
            assert abs(brightness(words, of) - papers[dark]) > 0.3, (words, dark)
    shown.dark(False)
    assert papers[False] > 0.9
    assert papers[True] < 0.15


def test_what_a_part_took_has_a_remark_where_it_is_far_from_the_plan(shown: Page) -> None:
    rows = shown.value(
        "[...document.querySelectorAll('tr')].map(row => [...row.cells].map(cell => cell.innerText))"
    )
    remarks = {row[0]: row[3] for row in rows if len(row) == 4 and row[0] != "part"}
    less = "of the plan, which is for larger files and batches"
    assert remarks == {
        "supervisor": "",
        "parsers": f"8 % {less}",
        "inference": "60 MiB more than planned",
        "in flight": f"5 % {less}",
        "together": f"26 % {less}",
    }


def test_a_picture_of_the_page_shows_its_colours(shown: Page) -> None:
    picture = Image.open(io.BytesIO(shown.picture())).convert("RGB")
    assert picture.width == 960
    colours = {colour for _, colour in picture.getcolors(2**24) or ()}
    for wanted in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73), (0xF5, 0xF5, 0xF5)):
        assert wanted in colours


def test_it_asks_nobody_for_anything(shown: Page, tmp_path: Path) -> None:
    assert shown.value("performance.getEntriesByType('resource').length") == 0
