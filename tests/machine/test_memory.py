"""Memory is sampled over the living processes of each stage, and the peaks are kept."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from engine.machine import memory as metrics
from engine.machine.memory import STAGES, MemorySampler, pss_bytes


def test_a_process_has_at_most_its_resident_memory() -> None:
    resident = psutil.Process().memory_info().rss
    assert 2**20 < pss_bytes(os.getpid()) <= 1.1 * resident


def test_memory_that_is_taken_shows() -> None:
    before = pss_bytes(os.getpid())
    taken = bytearray(os.urandom(2**20) * 64)
    assert pss_bytes(os.getpid()) - before > 2**25
    assert len(taken) == 2**26


def test_a_process_that_is_gone_has_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert pss_bytes(child.pid) == 0


def test_a_process_that_died_and_was_not_waited_for_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(1)"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert pss_bytes(child.pid) == 0


def test_systems_without_pss_tell_resident_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert pss_bytes(os.getpid()) == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_peaks_are_the_highest_sums_of_a_stage_in_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {os.getpid(): 10, 1: 100, 2: 200, 3: 1000}
    processes = [("parsers", 1), ("parsers", 2), ("inference", 3)]
    monkeypatch.setattr(metrics, "pss_bytes", memory.__getitem__)
    sampler = MemorySampler(lambda: processes)
    assert sampler.peaks == dict.fromkeys(STAGES, 0)
    sampler.sample()
    assert sampler.total == 1310
    memory.update({1: 500, 2: 0, 3: 50})
    sampler.sample()
    assert sampler.total == 560
    assert sampler.peaks == {
        "total": 1310,
        "supervisor": 10,
        "parsers": 500,
        "inference": 1000,
        "indexer": 0,
    }


def test_between_two_readings_of_pss_the_change_of_the_resident_size_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pss, rss = {os.getpid(): 10, 1: 100}, {os.getpid(): 50, 1: 300}
    monkeypatch.setattr(metrics, "pss_bytes", lambda pid: pss.get(pid, 0))
    monkeypatch.setattr(metrics, "rss_bytes", lambda pid: rss.get(pid, 0))
    trace = io.StringIO()
    sampler = MemorySampler(lambda: [("parsers", 1)], trace=trace)
    sampler.sample(exact=False)  # what was never read is read
    assert sampler.total == 110
    rss[1] = 340
    sampler.sample(exact=False)
    assert (sampler.total, sampler.processes) == (150, {os.getpid(): 10, 1: 140})
    del rss[1]
    sampler.sample(exact=False)  # it is gone
    assert sampler.total == 10
    lines = [json.loads(line) for line in trace.getvalue().splitlines()]
    assert [(line["supervisor"], line["parsers"], line["total"]) for line in lines] == [
        (10, 100, 110), (10, 140, 150), (10, 0, 10),
    ]  # fmt: skip
    assert [line["exact"] for line in lines] == [False] * 3
    assert lines[0]["seconds"] <= lines[2]["seconds"]


def test_the_thread_samples_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RSS_INTERVAL_S", 0.001)
    sampler = MemorySampler(list)
    sampler.start()
    while not sampler.peaks["total"]:
        pass
    sampler.stop()
    assert sampler.peaks["total"] == sampler.peaks["supervisor"] > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells no children")
def test_processes_are_found_whatever_thread_and_child_started_them() -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '600']); print(1, flush=True); input()"
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        child = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        started.append(child)
        done.wait(120)

    done = threading.Event()
    thread = threading.Thread(target=start)
    before = set(metrics.descendants(os.getpid()))
    thread.start()
    try:
        deadline = time.monotonic() + 120
        while not started and time.monotonic() < deadline:
            time.sleep(0.01)
        (child,) = started
        (grandchild,) = psutil.Process(child.pid).children()
        assert set(metrics.descendants(os.getpid())) - before == {child.pid, grandchild.pid}
    finally:
        done.set()
        thread.join()
    grandchild.kill()
    child.communicate(b"\n")
    assert metrics.descendants(child.pid) == []
