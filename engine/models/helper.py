"""Asks a separate process a question about a model, so that its memory is freed afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import engine
from engine.models.spec import ImageSpec, TextSpec, from_json, to_json

#: Seconds that an answer may take.
DEADLINE_S = 900.0


#: How much the processes give way to others (`nice`): where nobody waits for the answer, so much that work
#: beside them gets three times as much of a core, and that they still come to an end.
BESIDE = 5
niceness: ContextVar[int] = ContextVar("niceness", default=0)


class HelperError(Exception):
    """The process gave no answer; the text says why. A later try may succeed."""


def ask(module: str, spec: TextSpec | ImageSpec, *arguments: str) -> dict[str, Any]:
    """What `python -m MODULE ARGUMENT...` answers of the model, which it reads from its standard input; and
    `cpu_s`, the processor seconds that this took.

    Raises `HelperError` where it dies, or takes longer than `DEADLINE_S`.
    """
    # The process reads this pipe; its end shows that the caller is gone.
    theirs, ours = os.pipe()
    root = str(Path(engine.__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with (
        os.fdopen(ours, "wb", buffering=0) as life,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as errors,
    ):
        # The answer goes to a file: a library's forked child may outlive the process, and would hold a pipe
        # open. That child is in the same process group, which is killed as a whole.
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=theirs,
            stdout=said,
            stderr=errors,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PGRP, process.pid, niceness.get())
            with suppress(BrokenPipeError):
                life.write((to_json(spec) + "\n").encode())
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise HelperError(f"took longer than {DEADLINE_S:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode == 0:
            said.seek(0)
            found: dict[str, Any] = json.load(said)
            return found
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    last = f": {lines[-1][:200]}" if lines else ""
    raise HelperError(f"ended with exit code {process.returncode}{last}")


def answer_with(answer: Callable[[TextSpec | ImageSpec], dict[str, Any]]) -> None:
    """The other side of `ask`: print what the function says of the model as a line of JSON, and end."""
    spec = from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    # Output of models and libraries, also from C++, must not mix with the answer.
    with os.fdopen(os.dup(1), "w") as said:
        os.dup2(2, 1)
        found = answer(spec)
        said.write(json.dumps({**found, "cpu_s": round(time.process_time(), 1)}) + "\n")
    sys.stderr.flush()
    # Threads of libraries must not keep the process alive.
    os._exit(0)


def _end_with_the_caller() -> None:
    sys.stdin.read()
    # With what a library has forked (ONNX Runtime's telemetry does), which would stay for ever.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
