"""One running `engine.run` as the storm sees it: its processes by name, its progress, how it ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.plan import Strike

#: What the log says when a child was started.
_STARTED = re.compile(r" INFO (\S+) started, process (\d+)$", re.MULTILINE)

#: How multiprocessing starts a child, and what it has besides.
_SPAWNED, _TRACKER = "spawn_main", "resource_tracker"

#: Lines of a log in a dump.
TAIL_LINES = 15


class Invocation:
    """The command, started in a process group of its own."""

    def __init__(self, command: list[str], run_dir: Path, stderr: Path) -> None:
        self._run_dir, self._stderr = run_dir, stderr
        self._log_from = self._log_size()
        self._told_from = stderr.stat().st_size if stderr.exists() else 0
        self.started = time.monotonic()
        with open(stderr, "ab") as sink:
            self.process = psutil.Popen(command, stdout=sink, stderr=sink, start_new_session=True)
        self.pid: int = self.process.pid
        #: The processes that are stopped now, and when each shall go on.
        self.stopped: dict[int, tuple[float, psutil.Process]] = {}
        #: Strikes that it has taken, and when it was seen to have ended.
        self.strikes = 0
        self.ended: float | None = None

    def code(self) -> int | None:
        """Its exit code, once it has ended."""
        code: int | None = self.process.poll()
        if code is not None and self.ended is None:
            self.ended = time.monotonic()
        return code

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The living processes by the names that a plan gives them."""
        named = {int(pid): name for name, pid in _STARTED.findall(self._log())}
        found: dict[str, list[psutil.Process]] = {"supervisor": [self.process]}
        with suppress(psutil.NoSuchProcess):
            for child in self.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if child.status() == psutil.STATUS_ZOMBIE:
                        continue
                    name = named.get(child.pid) or _by_command(child.cmdline())
                    found.setdefault(name.partition("-")[0], []).append(child)
        return found

    def strike(self, strike: Strike) -> psutil.Process | None:
        """Send the signal; the process that took it, or None where there is no such process."""
        there = sorted(self.processes().get(strike.victim, []), key=lambda process: process.pid)
        if not there or self.code() is not None:
            return None
        victim = there[int(strike.which * len(there))]
        if strike.signal == "SIGSTOP" and victim.pid in self.stopped:
            return None
        try:
            if strike.signal == "SIGKILL":
                victim.kill()
            elif strike.signal == "SIGTERM":
                victim.terminate()
            else:
                victim.suspend()
                self.stopped[victim.pid] = (time.monotonic() + strike.pause, victim)
        except psutil.NoSuchProcess:
            return None
        self.strikes += 1
        return victim

    def resume_due(self, all_of_them: bool = False) -> list[int]:
        """Let go on what was stopped for long enough; the ids of those that were still there."""
        now, resumed = time.monotonic(), []
        for pid, (until, process) in list(self.stopped.items()):
            if all_of_them or now >= until:
                del self.stopped[pid]
                with suppress(psutil.NoSuchProcess):
                    process.resume()
                    resumed.append(pid)
        return resumed

    def status(self) -> dict[str, Any] | None:
        """`status.json`, if this invocation wrote one yet."""
        try:
            status: dict[str, Any] = json.loads((self._run_dir / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return status if status.get("pid") == self.pid else None

    def survivors(self) -> list[psutil.Process]:
        """Processes of it that still live; to be asked once it has ended."""
        return [process for process in self._group() if process.pid != self.pid]

    def kill(self) -> None:
        """SIGKILL its group, and wait."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, 9)
        with suppress(psutil.TimeoutExpired, subprocess.TimeoutExpired):
            self.process.wait(10)

    def last_words(self) -> str:
        """The last line that it printed."""
        with open(self._stderr, "rb") as file:
            file.seek(self._told_from)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def dump(self) -> list[str]:
        """What is known of it while it hangs: its processes, its log's last lines, its status."""
        lines = []
        for name, processes in self.processes().items():
            for process in processes:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    lines.append(
                        f"{name} {process.pid}: {process.status()}, {process.num_threads()} threads in"
                        f" {', '.join(_waiting(process.pid))}, {times.user + times.system:.1f} s of CPU"
                    )
        lines += ["run.log: " + line for line in self._log().splitlines()[-TAIL_LINES:]]
        lines.append(f"status.json: {json.dumps(self.status())}")
        return lines

    def _group(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _log_size(self) -> int:
        try:
            return (self._run_dir / "run.log").stat().st_size
        except OSError:
            return 0

    def _log(self) -> str:
        """What this invocation has logged."""
        try:
            with open(self._run_dir / "run.log", "rb") as file:
                file.seek(self._log_from)
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _by_command(command: list[str]) -> str:
    """A child that the log doesn't name: the indexer, which the engine may not log, or none of its own."""
    line = " ".join(command)
    return "indexer" if _SPAWNED in line and _TRACKER not in line else "other"


def _waiting(pid: int) -> list[str]:
    """The kernel functions in which the threads wait."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found.append((task / "wchan").read_text() or "-")
    return found
