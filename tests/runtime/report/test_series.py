"""The series of a run stays small, whole and true however long the run is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine.runtime.report.series import GROWING, MOST_POINTS, SERIES_FILE, WRITE_INTERVAL_S, Sample, Series


def point(seconds: float, level: float = 0.0) -> Sample:
    grown = [10.0 * seconds] * (GROWING - 1)
    return Sample(seconds, *grown, *[level] * (len(Sample._fields) - GROWING))


def read(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / SERIES_FILE).read_text())
    return found


def test_a_short_run_has_its_points_when_it_ends(tmp_path: Path) -> None:
    series = Series(tmp_path, run=3, buffer=1000)
    for second in range(5):
        series.add(point(float(second)))
    assert not (tmp_path / SERIES_FILE).exists()
    series.add(point(4.2, level=7.0), last=True)
    found = read(tmp_path)
    assert (found["run"], found["buffer"], found["interval_s"]) == (3, 1000, 1.0)
    assert found["columns"] == [*Sample._fields]
    assert [each[0] for each in found["points"]] == [0.0, 1.0, 2.0, 3.0, 4.0, 4.2]
    assert found["points"][-1][-1] == 7.0
    assert [path.name for path in tmp_path.iterdir()] == [SERIES_FILE]


def test_points_that_come_too_soon_are_left_out_and_the_file_is_written_now_and_then(tmp_path: Path) -> None:
    series = Series(tmp_path, run=1)
    for tenth in range(int(10 * WRITE_INTERVAL_S) + 1):
        series.add(point(tenth / 10))
    assert len(read(tmp_path)["points"]) == WRITE_INTERVAL_S + 1


def test_a_run_of_days_keeps_few_points_in_which_sums_and_peaks_are_true(tmp_path: Path) -> None:
    series = Series(tmp_path, run=1)
    peak_at = 12_345
    for second in range(100_000):
        series.add(point(float(second), level=9.0 if second == peak_at else 1.0))
    series.add(point(100_000.0), last=True)
    found = read(tmp_path)
    points = found["points"]
    assert MOST_POINTS / 2 <= len(points) <= MOST_POINTS
    assert found["interval_s"] == 256.0
    assert (tmp_path / SERIES_FILE).stat().st_size < 100_000
    assert all(each[1] == 10 * each[0] for each in points)
    assert [each[0] for each in points] == sorted(each[0] for each in points)
    highest = max(points, key=lambda each: each[-1])
    # The file's points may stand apart, but a level is never smoothed away if it was a point once.
    assert highest[-1] == 1.0 or abs(highest[0] - peak_at) <= found["interval_s"]


def test_of_two_points_that_become_one_the_later_sums_and_the_higher_levels_stay(tmp_path: Path) -> None:
    series = Series(tmp_path, run=1)
    for second in range(MOST_POINTS + 1):
        series.add(point(float(second), level=float(second == 10)))
    series.add(point(MOST_POINTS + 1.0), last=True)
    points = read(tmp_path)["points"]
    assert [each[0] for each in points[:3]] == [1.0, 3.0, 5.0]
    assert [each[-1] for each in points if each[-1]] == [1.0]
    assert next(each[0] for each in points if each[-1]) == 11.0


def test_a_full_series_takes_a_quarter_of_a_megabyte_at_most(tmp_path: Path) -> None:
    series = Series(tmp_path, run=1)
    for second in range(MOST_POINTS):
        series.add(point(second + 0.5, level=second + 0.25))
    size = sum(sys.getsizeof(each) + sum(map(sys.getsizeof, each)) for each in series._points)
    assert len(series._points) == MOST_POINTS
    assert size < 2**18


def test_a_file_that_can_not_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / (SERIES_FILE + ".new")).mkdir()
    Series(tmp_path, run=1).add(point(1.0), last=True)
    assert not (tmp_path / SERIES_FILE).exists()
