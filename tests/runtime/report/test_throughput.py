"""What is noted of a run's speed is what the processes say, in the window in which there was work."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.cli.options import parse
from engine.models.resolve import resolve_text
from engine.runtime.flow.lanes import make_lanes
from engine.runtime.ledger.counts import Counts
from engine.runtime.limits.cgroup import usable_cores
from engine.runtime.pipeline import Pipeline
from engine.runtime.process.stats import Stats
from engine.runtime.report.throughput import Speed


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    config = parse([str(tmp_path), "--run-dir", str(tmp_path), "--text-model", "stand-in:8"])
    return Pipeline(config, resolve_text("stand-in:8"), make_lanes(["cpu"]))


def test_the_window_is_from_the_first_batch_to_the_last_acknowledgement() -> None:
    speed, before = Speed(), time.monotonic()
    nothing = speed.observed(Counts(), {})
    assert (nothing.first_s, nothing.last_s, nothing.window_s) == (None, None, 0.0)
    assert speed.first_batch(before)
    assert not speed.first_batch(before + 50)  # of a process that was started again
    speed.wrote()
    time.sleep(0.05)
    speed.wrote()
    seen = speed.observed(Counts(tokens=7, image_chunks=2), {"parse": Stats(1.0, 0.0, 0.0)})
    assert 0.05 <= seen.window_s <= time.monotonic() - before
    assert (seen.items, seen.stage("parse").busy_s) == ({"text": 7, "image": 2}, 1.0)


def test_the_window_begins_anew_for_every_process_s_time(pipeline: Pipeline) -> None:
    pipeline.wait(0.1)
    assert Speed().first_batch(time.monotonic())
    pipeline.mark()
    pipeline.wait(0.05)
    whole = pipeline.stats()["supervise"].waits["messages"]
    assert whole >= 0.15
    assert 0.05 <= pipeline.stats(since_mark=True)["supervise"].waits["messages"] <= whole - 0.09


def test_timing_a_model_holds_others_back_and_is_no_part_of_the_window() -> None:
    speed = Speed()
    speed.loaded("inference", "text", "cuda:0")
    speed.calibrating.add("inference")
    held = [{*speed.calibrating}]
    speed.calibrated("inference", "text", 1000.0, 2.0)
    held.append({*speed.calibrating})
    speed.first_batch(time.monotonic() - 10)
    speed.calibrated("inference", "image", None, 3.0)
    speed.wrote()
    seen = speed.observed(Counts(), {})
    assert seen.window_s == pytest.approx(7.0, abs=1.0)
    # Nothing was written since: that model's pictures are all refused.
    speed.calibrated("inference", "image", None, 60.0)
    assert speed.observed(Counts(), {}).window_s == seen.window_s
    assert (seen.devices, seen.rates) == ({"text": "cuda:0"}, {"text": 1000.0})
    speed.calibrating.add("inference")
    speed.forget("inference")
    assert [*held, speed.calibrating] == [{"inference"}, set(), set()]


def test_devices_add_up_and_one_that_is_gone_counts_no_more() -> None:
    speed = Speed()
    for lane, rate in (("inference-0", 1000.0), ("inference-1", 500.0)):
        speed.loaded(lane, "text", "a GPU")
        speed.calibrated(lane, "text", rate, 2.0)
    assert (speed.observed(Counts(), {}).rates, speed.observed(Counts(), {}).devices) == (
        {"text": 1500.0}, {"text": "a GPU"},
    )  # fmt: skip
    speed.forget("inference-1")
    assert speed.observed(Counts(), {}).rates == {"text": 1000.0}


def test_other_programs_are_what_the_cores_did_beside_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([100.0, 115.0])
    monkeypatch.setattr("engine.runtime.report.throughput._spent_by_all", lambda: next(spent))
    speed = Speed()
    speed.first_batch(time.monotonic() - 10)
    seen = speed.observed(Counts(), {"infer": Stats(9.0, 0.0, 0.0, cpu_s=10.0)})
    assert seen.others_share == pytest.approx(5 / (10 * usable_cores()), rel=0.1)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        ("0::/a", {"sys/fs/cgroup/a/cpu.max": "max 100000"}, None),
        ("0::/a", {"sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b", {"sys/fs/cgroup/a/cpu.max": "25000 100000",
                     "sys/fs/cgroup/a/b/cpu.max": "max 100000"}, 0.25),
        ("4:cpu,cpuacct:/j", {"sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "75000",
                              "sys/fs/cgroup/cpu/j/cpu.cfs_period_us": "100000"}, 0.75),
        ("4:cpu,cpuacct:/j", {"sys/fs/cgroup/cpu/j/cpu.cfs_quota_us": "-1",
                              "sys/fs/cgroup/cpu/j/cpu.cfs_period_us": "100000"}, None),
        ("4:memory:/j", {"sys/fs/cgroup/memory/j/cpu.max": "1 100000"}, None),
    ],
)  # fmt: skip
def test_a_container_s_quota_bounds_the_cores(
    tmp_path: Path, cgroup: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup + "\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert usable_cores(tmp_path) == (usable_cores(tmp_path / "none") if quota is None else quota)
