"""Parsers that are gone leave nothing behind, and none is waited for in vain."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from engine.runtime import messages as m
from engine.runtime.admission import Admission
from engine.runtime.child import Child
from engine.runtime.deaths import Restarts
from engine.runtime.pipeline import ParserSlot, Pipeline
from tests.runtime import children

CONFIG = cast(Any, SimpleNamespace(images=True, file_timeout=600.0, parser_memory=2**30, workers=1))


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
    slot = pipeline.parsers["parser-0"] = ParserSlot(child, dead=True)
    child.process.join(30)
    assert child.process.exitcode == 7
    pipeline.remove(slot)
    deadline = time.monotonic() + 10
    while threads_of("parser-0") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads_of("parser-0") == []


def test_a_parser_that_told_its_failure_and_never_ends_is_killed(tmp_path: Path) -> None:
    pipeline, admission = made()
    child = Child("parser-0", children.busy, str(tmp_path))
    slot = pipeline.parsers["parser-0"] = ParserSlot(child)
    admission.handle(slot, m.Failed(1, "a bug"))
    admission.watch(time.monotonic(), draining_s=0)
    child.process.join(10)
    assert child.process.exitcode == -signal.SIGKILL
    assert slot.verdict is not None
    assert slot.verdict.reason == "its parser failed: a bug"
    child.kill()
