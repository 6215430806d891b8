"""The sampler of the memory benchmark, on real process trees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from benchmarks.memory import figures
from benchmarks.memory.cases.imports import LIBRARIES
from benchmarks.memory.sampler import Series, measure
from benchmarks.memory.stages import Stages, parse_label

#: Bytes that a test's process fills, far above what an interpreter takes.
KNOWN = 200 * 10**6

FILL = f"x = bytearray({KNOWN}); import time; time.sleep(1.0)"

INTERVAL = 0.05


def sample(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.memory.sample", "--interval", str(INTERVAL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def parent_of(program: str, then: str = "child.wait()") -> list[str]:
    """A process that starts another one."""
    start = f"import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {program!r}])"
    return python(f"{start}; {then}")


def test_memory_of_a_child_counts_to_the_tree_and_to_the_stage_of_its_label() -> None:
    stages = Stages([parse_label("filler=^[^ ]+ -c x = bytearray"), parse_label("rest=.")])
    found = measure(parent_of(FILL), stages, INTERVAL)
    assert found.exit_code == 0
    assert set(found.peaks) == {"total", "filler", "rest"}
    assert KNOWN < found.peaks["filler"] < KNOWN + 30e6
    assert found.peaks["filler"] < found.peaks["total"] < found.peaks["filler"] + 60e6
    assert found.peaks["total"] == max(found.series.total)
    assert found.processes == 2


def test_a_process_without_a_label_is_a_stage_of_its_own() -> None:
    found = measure(parent_of(FILL), Stages(), INTERVAL)
    name = psutil.Process().name()
    # The child may be caught before it has become an interpreter of its own.
    assert {"total", name} < set(found.peaks)
    assert sum(size > KNOWN for stage, size in found.peaks.items() if stage != "total") == 1


def test_children_that_end_between_two_samples_do_no_harm_and_count_no_longer() -> None:
    many = "import subprocess\nfor _ in range(60): subprocess.run(['true'])"
    found = measure([sys.executable, "-c", f"{many}\n{FILL}"], Stages(), INTERVAL)
    assert found.exit_code == 0
    assert found.peaks["total"] > KNOWN
    last = {stage: values[-2] for stage, values in found.series.stages.items() if values[-2]}
    assert len(last) == 1


def test_a_descendant_is_followed_when_its_parent_has_ended() -> None:
    short = parent_of(FILL, then="time.sleep(0.5)")
    outer = python(f"import subprocess, time; subprocess.run({short!r}); time.sleep(0.4)")
    found = measure(outer, Stages(), INTERVAL)
    late = [size for at, size in zip(found.series.seconds, found.series.total, strict=True)
            if at > found.series.seconds[-1] - 0.3]  # fmt: skip
    assert late and max(late) > KNOWN


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(7)", 7), ("pass", 0)])
def test_the_command_keeps_its_exit_code(program: str, code: int) -> None:
    assert sample("--", *python(program)).returncode == code


def test_a_command_that_a_signal_ends_has_the_code_of_a_shell() -> None:
    assert sample("--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--", "no-such-command-here"], 127, "no-such-command-here: No such file"),
        (["--", "/"], 126, "/: Permission denied"),
        ([], 2, "no COMMAND"),
        (["--interval", "0", "--", "true"], 2, "'0' is not a number of seconds above 0"),
        (["--label", "x", "--", "true"], 2, "'x' is not STAGE=REGEX"),
        (["--label", "x=(", "--", "true"], 2, "'x=('"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments: list[str], code: int, told: str) -> None:
    done = sample(*arguments)
    assert done.returncode == code
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_missing_matplotlib_is_told_before_the_command_runs(tmp_path: Path) -> None:
    program = (
        "import importlib.util, sys; from benchmarks.memory import figures, sample\n"
        "figures.find_spec = lambda name: None\n"
        f"sys.argv = ['sample', '--plot', 'x.png', '--', 'touch', {str(tmp_path / 'ran')!r}]\n"
        "sys.exit(sample.main())"
    )
    done = subprocess.run(python(program), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr == (
        "sample: --plot x.png: matplotlib is not installed; uv pip install -e '.[bench]'\n"
    )
    assert not (tmp_path / "ran").exists()


def test_json_holds_peaks_series_environment_and_the_sampler_s_own_share(tmp_path: Path) -> None:
    done = sample("--json", str(tmp_path / "out.json"), "--", *python(FILL))
    assert done.returncode == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["unit"] in ("pss", "rss")
    assert found["peaks"]["total"] == max(map(sum, zip(*found["series"]["stages"].values(), strict=True)))
    assert all(
        len(found["series"]["seconds"]) == len(values) for values in found["series"]["stages"].values()
    )
    assert 0 < found["sampler_cpu_share"] < 1
    assert found["environment"]["memory_bytes"] == psutil.virtual_memory().total
    assert f"{found['sampler_cpu_share']:.2%} of a core" in done.stderr


def test_sigterm_is_passed_on_to_the_command() -> None:
    command = [sys.executable, "-m", "benchmarks.memory.sample", "--", "sleep", "60"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while not (children := psutil.Process(process.pid).children()) and time.monotonic() < until:
            time.sleep(0.02)
        (child,) = children
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        assert not child.is_running()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has scores by which the stages are told")
def test_the_engine_s_processes_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    for number in range(40):
        (tmp_path / "corpus" / f"{number}.txt").write_text(f"Bees of hive {number} sleep. " * 40)
    command = [sys.executable, "-m", "engine.run", str(tmp_path / "corpus"), "--quiet"]
    # So slow that every process is met by many samples.
    command += ["--adapter", f"lancedb://{tmp_path}/db", "--run-dir", str(tmp_path / "run")]
    command += ["--text-model", "stand-in:8@10000"]
    found = measure(command, Stages(), INTERVAL)
    assert found.exit_code == 0
    assert set(found.peaks) == {"total", "supervisor", "starting", "parsers", "inference", "indexer"}
    assert all(size > 10e6 for size in found.peaks.values())


def test_a_process_that_has_given_up_its_memory_is_gone() -> None:
    ending = SimpleNamespace(pid=1, cmdline=list, name=lambda: "python", create_time=lambda: 0.0)
    with pytest.raises(psutil.NoSuchProcess):
        Stages()(cast(Any, ending))


def test_stages_that_begin_late_or_end_early_are_zero_elsewhere() -> None:
    series = Series()
    for at, sums in enumerate([{"a": 5}, {"a": 3, "b": 4}, {"b": 6}]):
        series.add(float(at), sums, None)
    assert series.stages == {"a": [5, 3, 0], "b": [0, 4, 6]}
    assert series.total == [5, 7, 6]
    assert series.peaks() == {"total": 7, "a": 5, "b": 6}


def test_a_slope_is_that_of_the_second_half_of_the_work() -> None:
    series = Series()
    for done in range(11):
        series.add(float(done), {"a": 100 if done < 5 else 100 + 7 * done}, float(done))
    x, y = figures.second_half(series, series.stages["a"])
    assert x == [5, 6, 7, 8, 9]
    steepness, error = figures.slope(x, y)
    assert steepness == pytest.approx(7)
    assert error == pytest.approx(0, abs=1e-9)


def test_the_ruler_maps_none_of_the_libraries_that_it_measures() -> None:
    program = "import sys, benchmarks.memory.cases.__main__, benchmarks.memory.sample; print(*sys.modules)"
    done = subprocess.run(python(program), capture_output=True, text=True, check=True, timeout=120)
    measured = {name.partition(".")[0] for name in LIBRARIES} - {"psutil", "multiprocessing", "sqlite3"}
    assert not measured & set(done.stdout.split())


def test_a_table_has_numbers_at_the_right() -> None:
    told = figures.table([{"case": "x 1", "MB": "1.0"}, {"case": "x 100", "MB": "1,000.0"}])
    assert told.splitlines()[1] == "|-------|--------:|"
    assert re.search(r"^\| x 1   \|     1\.0 \|$", told, re.MULTILINE)
