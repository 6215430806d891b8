"""Which stage a process belongs to: by given patterns, as one of our engine's, else one stage for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psutil

#: What the engine's processes give themselves as `oom_score_adj`, so that the kernel kills a parser first.
ENGINE_SCORES = {800: "parsers", 200: "inference", 100: "indexer"}

#: Commands that are a supervisor of such processes.
ENGINE_COMMANDS = ("engine.run", "engine.verify")

#: How multiprocessing starts a child, and what it has besides; both are in the child's command line.
_SPAWNED, _TRACKER = "multiprocessing.spawn", "multiprocessing.resource_tracker"


class Stages:
    """Names the stage of each process that it is asked for.

    `labels` are (stage, pattern) pairs, tried in order against the command line, its words joined by spaces,
    and against `/proc/PID/comm`. A process without a stage of its own is called after its executable, and
    numbered where several have that name at some time.
    """

    def __init__(self, labels: Sequence[tuple[str, re.Pattern[str]]] = ()) -> None:
        self._labels = tuple(labels)
        #: The names given to processes without a stage, by (pid, start).
        self._own: dict[tuple[int, float], str] = {}
        self._used: dict[str, int] = {}

    def __call__(self, process: psutil.Process) -> str:
        """The stage's name. Raises `psutil.Error` once the process is gone."""
        command = process.cmdline()
        if not command:
            # Its memory is given up already, with what it was called; in a moment it is gone.
            raise psutil.NoSuchProcess(process.pid)
        joined = " ".join(command)
        name: str = process.name()
        for stage, pattern in self._labels:
            if pattern.search(joined) or pattern.search(name):
                return stage
        return _of_engine(process.pid, command, joined) or self._own_name(process, name)

    def _own_name(self, process: psutil.Process, name: str) -> str:
        key = (process.pid, process.create_time())
        known = self._own.get(key)
        # A process that has just been forked bears its parent's name until it becomes another program.
        if known is None or known.partition("#")[0] != name:
            number = self._used[name] = self._used.get(name, 0) + 1
            known = self._own[key] = name if number == 1 else f"{name}#{number}"
        return known


def _of_engine(pid: int, command: Sequence[str], joined: str) -> str | None:
    if any(name in command for name in ENGINE_COMMANDS) or _TRACKER in joined:
        return "supervisor"
    if _SPAWNED not in joined:
        return None
    try:
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
            # Any other score: it has been started and has not come to set it, or is of another program.
            return ENGINE_SCORES.get(int(file.read()), "starting")
    except (OSError, ValueError):
        return "children"


def parse_label(text: str) -> tuple[str, re.Pattern[str]]:
    """`stage=REGEX` as a pair. Raises `ValueError`."""
    stage, separator, pattern = text.partition("=")
    if not (stage and separator and pattern):
        raise ValueError(f"{text!r} is not STAGE=REGEX")
    try:
        return stage, re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{text!r}: {error}") from None
