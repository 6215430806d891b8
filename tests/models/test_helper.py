"""A question to a process of its own is answered, or fails with its last words; nothing waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from engine.models import helper
from engine.models.helper import HelperError, ask
from engine.models.resolve import resolve_text
from tests.integration.runs import wait_until

#: The checkout that is tested.
ROOT = Path(__file__).resolve().parents[2]

#: Answers with the model's name; by its arguments it leaves a fork behind, dies or sleeps before.
MODULE = """
import os, sys, time
from engine.models.helper import answer_with

def answer(spec):
    if "fork" in sys.argv and os.fork() == 0:
        with open(sys.argv[2], "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
    if "die" in sys.argv:
        sys.exit("no such luck")
    if "sleep" in sys.argv:
        time.sleep(600)
    return {"name": spec.name}

answer_with(answer)
"""


#: Asks, and waits for ever.
CALLER = """
import sys
from engine.models.helper import ask
from engine.models.resolve import resolve_text
ask("answering", resolve_text("stand-in:8"), "fork", sys.argv[1], "sleep")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "answering.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "answering"


SPEC = resolve_text("stand-in:8")


def test_the_answer_is_what_the_module_says(module: str) -> None:
    assert ask(module, SPEC)["name"] == SPEC.name


def test_a_fork_that_outlives_the_process_keeps_nobody_waiting_and_is_ended(
    module: str, tmp_path: Path
) -> None:
    left = tmp_path / "pid"
    assert ask(module, SPEC, "fork", str(left))["name"] == SPEC.name
    deadline = time.monotonic() + 120
    while left.exists() and left.read_text() and psutil.pid_exists(int(left.read_text())):
        if psutil.Process(int(left.read_text())).status() == psutil.STATUS_ZOMBIE:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_dies_is_told_of_with_its_last_words(module: str) -> None:
    with pytest.raises(HelperError, match="ended with exit code 1: no such luck"):
        ask(module, SPEC, "die")


def test_a_process_that_takes_too_long_is_ended(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "DEADLINE_S", 2.0)
    with pytest.raises(HelperError, match="took longer than 2 s"):
        ask(module, SPEC, "sleep")


def test_with_a_caller_that_is_killed_the_process_ends_and_what_it_forked(
    module: str, tmp_path: Path
) -> None:
    left = tmp_path / "pid"
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-c", CALLER, str(left)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}) as caller:
        wait_until(lambda: left.exists() and left.read_text())
        fork = psutil.Process(int(left.read_text()))
        helper = fork.parent()
        caller.kill()
    for process in filter(None, (fork, helper)):
        wait_until(partial(is_gone, process))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
