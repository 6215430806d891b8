"""What got lost is told, and what is only slow is not taken for it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.cli.options import parse
from engine.errors import HandOverError
from engine.runtime.limits.stop import DatabaseWait, StopRequest
from engine.runtime.recovery import Recovery
from engine.runtime.router import Router
from engine.runtime.supervisor import IDLE_DEADLINE_S, Supervisor


def waiting(tmp_path: Path, silent_s: float, idle_s: float) -> Supervisor:
    """A supervisor that has waited so long for a file which is with no process, as far as it knows; its
    inference process was last heard `silent_s` ago."""
    command = [str(tmp_path), "--adapter", f"lancedb://{tmp_path}/db", "--text-model", "stand-in:8"]
    supervisor = Supervisor(parse(command))
    now = time.monotonic()
    child = SimpleNamespace(
        name="parser-0", heard_at=now - silent_s, excuse=lambda: None, process=SimpleNamespace(exitcode=None)
    )
    supervisor._parts = cast(Any, SimpleNamespace(
        intake=SimpleNamespace(listed=True),
        admission=SimpleNamespace(idle=True, watch=lambda now, draining_s, sizes: None),
        memory=SimpleNamespace(processes={}),
        accounts=SimpleNamespace(active=1),
        credits=SimpleNamespace(in_flight=0),
        pipeline=SimpleNamespace(children=lambda: [child], lanes=[], find=lambda name: child),
        stop=StopRequest(60),
        database=DatabaseWait(60),
    ))  # fmt: skip
    supervisor._recovery = Recovery(supervisor._parts, Router())
    supervisor._idle_since = now - idle_s
    return supervisor


def test_a_file_that_no_process_has_is_told_after_a_while(tmp_path: Path) -> None:
    waiting(tmp_path, silent_s=1, idle_s=IDLE_DEADLINE_S - 1)._check_moving()
    with pytest.raises(HandOverError, match="1 files are on their way, and no segment of theirs"):
        waiting(tmp_path, silent_s=1, idle_s=IDLE_DEADLINE_S + 1)._check_moving()


def test_a_process_that_starts_slowly_is_waited_for(tmp_path: Path) -> None:
    waiting(tmp_path, silent_s=IDLE_DEADLINE_S + 1, idle_s=IDLE_DEADLINE_S + 1)._check_moving()


def test_the_time_in_which_the_run_was_stopped_as_a_whole_does_not_count(tmp_path: Path) -> None:
    supervisor = waiting(tmp_path, silent_s=1, idle_s=IDLE_DEADLINE_S + 1)
    supervisor._away = cast(Any, SimpleNamespace(look=lambda now: True))
    supervisor._watch()
    supervisor._check_moving()
