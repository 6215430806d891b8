"""Parsers that are gone leave nothing behind, and none is waited for in vain."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.config import Config, MemoryConfig
from engine.runtime.flow.admission import MAPPED_ROOM, Admission
from engine.runtime.limits.deaths import Restarts, Verdict
from engine.runtime.pipeline import ParserSlot, Pipeline
from engine.runtime.process import messages as m
from engine.runtime.process.child import Child
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.stats import Stats
from engine.stages.parse import FileJob
from tests.runtime import children

CONFIG = Config(memory=MemoryConfig(parser_memory=2**30))


JOB = FileJob(7, "a", "a", 1, 1)


def made() -> tuple[Pipeline, Admission]:
    """A pipeline without processes yet, and the admission that watches its parsers."""
    pipeline = Pipeline(CONFIG, cast(Any, None))
    unused = cast(Any, None)
    return pipeline, Admission(CONFIG, pipeline, unused, unused, unused, Restarts())


def threads_of(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith(f" {name}")]


def test_a_parser_that_died_by_itself_leaves_no_thread_and_no_connection(tmp_path: Path) -> None:
    pipeline, _ = made()
    child = Child("parser-0", children.exits, str(tmp_path), 7)
    slot = pipeline.parsers["parser-0"] = ParserSlot(child, CurrentItem(), dead=True)
    child.process.join(120)
    assert child.process.exitcode == 7
    pipeline.remove(slot)
    deadline = time.monotonic() + 120
    while threads_of("parser-0") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads_of("parser-0") == []


def test_a_file_that_lets_its_parser_tell_nothing_is_a_reason_for_another_parser(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.runtime.pipeline.LOOK_S", -1.0)
    monkeypatch.setattr("engine.runtime.pipeline.usable_cores", lambda: 4.0)

    def wanted(current_item: bool, silent_s: float) -> int:
        pipeline, _ = made()
        pipeline.workers = 4
        told = SimpleNamespace(name="parser-0", heard_at=time.monotonic() - silent_s, stats=Stats(1, 0, 0))
        slot = ParserSlot(cast(Any, told), CurrentItem(), jobs=deque([JOB]))
        if current_item:
            slot.current_item.begin(JOB.attempt)
        pipeline.parsers["parser-0"] = slot
        for second in range(1, 6):
            stats = Stats(0.0, float(second), 0.0)
            pipeline.inference = cast(Any, SimpleNamespace(name="inference", stats=stats))
            pipeline.staff(waiting=True)
        return pipeline._staffing.wanted

    assert wanted(current_item=True, silent_s=10.0) > 1
    assert wanted(current_item=True, silent_s=1.0) == 1  # it may tell more in a moment
    assert wanted(current_item=False, silent_s=10.0) == 1  # it is still starting


def test_a_parser_that_told_its_failure_and_never_ends_is_killed(tmp_path: Path) -> None:
    pipeline, admission = made()
    child = Child("parser-0", children.busy, str(tmp_path))
    slot = pipeline.parsers["parser-0"] = ParserSlot(child, CurrentItem())
    admission.handle(slot, m.Failed(1, "a bug"))
    admission.watch(time.monotonic(), draining_s=0, sizes={})
    child.process.join(120)
    assert child.process.exitcode == -signal.SIGKILL
    assert slot.verdict is not None
    assert slot.verdict.reason == "its parser failed: a bug"
    child.kill()


def test_a_parser_that_maps_more_than_its_limit_is_killed_and_its_file_blamed(tmp_path: Path) -> None:
    pipeline, admission = made()
    child = Child("parser-0", children.busy, str(tmp_path))
    slot = pipeline.parsers["parser-0"] = ParserSlot(child, CurrentItem(), jobs=deque([JOB]))
    slot.current_item.begin(JOB.attempt)
    limit = pipeline.parser_memory + MAPPED_ROOM
    verdicts = []
    for size in (limit, limit + 1):
        admission.watch(time.monotonic(), draining_s=0, sizes={child.pid: size})
        verdicts.append(slot.verdict)
    reason = f"its parser took {limit + 1} bytes (--parser-memory {2**30})"
    assert verdicts == [None, Verdict(reason, blames_file=True)]
    child.process.join(120)
    assert child.process.exitcode == -signal.SIGKILL
    child.kill()


def test_the_largest_idle_parser_that_holds_on_to_memory_ends_by_itself(tmp_path: Path) -> None:
    pipeline, admission = made()
    echoes = [Child(f"parser-{number}", children.echo, str(tmp_path)) for number in range(2)]
    for child in echoes:
        slot = pipeline.parsers[child.name] = ParserSlot(child, CurrentItem())
        slot.current_item.begin(1)
        slot.current_item.end()
    small, large = int(0.3 * 2**30), int(0.5 * 2**30)
    admission.recycle({echoes[0].pid: small, echoes[1].pid: small})
    assert not any(slot.retired for slot in pipeline.parsers.values())
    admission.recycle({echoes[0].pid: small, echoes[1].pid: large})
    assert [slot.retired for slot in pipeline.parsers.values()] == [False, True]
    echoes[1].process.join(120)
    assert echoes[1].process.exitcode == 0
    pipeline.kill()


def test_fewer_workers_let_the_last_parsers_end_and_the_others_get_the_new_limit(tmp_path: Path) -> None:
    pipeline, _ = made()
    echoes = [Child(f"parser-{number}", children.echo, str(tmp_path)) for number in range(3)]
    for child in echoes:
        pipeline.parsers[child.name] = ParserSlot(child, CurrentItem())
    pipeline.limit(1, 200 * 2**20)
    assert [slot.retired for slot in pipeline.parsers.values()] == [False, True, True]
    assert resource.prlimit(echoes[0].pid, resource.RLIMIT_DATA)[0] == 200 * 2**20
    pipeline.kill()
    assert pipeline.parsers == {}
