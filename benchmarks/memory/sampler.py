"""The sampler: the memory of a process tree by stage, as often as asked, and what the looking itself costs.

Imports little on purpose: a library that is mapped here as well counts less in the PSS of those measured.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType

import psutil

from engine.machine.memory import pss_bytes

#: What a sample counts: the proportional set size, or where the system has none the resident one, in which
#: pages that several processes share count once for each.
UNIT = "pss" if sys.platform == "linux" else "rss"

#: Exit codes of a command that isn't there, and that can't be run, as shells give them.
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class CommandError(Exception):
    """The command could not be started; `exit_code` is what a shell would end with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Series:
    """Samples: seconds since the start, bytes of each stage (0 where it has no process), and `progress`,
    whatever the caller measures of the work done, where it does."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[int]] = field(default_factory=dict)
    progress: list[float] = field(default_factory=list)

    def add(self, seconds: float, sums: Mapping[str, int], progress: float | None) -> None:
        """One more sample."""
        for stage in sums:
            self.stages.setdefault(stage, [0] * len(self.seconds))
        self.seconds.append(seconds)
        for stage, values in self.stages.items():
            values.append(sums.get(stage, 0))
        if progress is not None:
            self.progress.append(progress)

    @property
    def total(self) -> list[int]:
        """The sum over the stages of each sample."""
        return [sum(values) for values in zip(*self.stages.values(), strict=True)]

    def peaks(self) -> dict[str, int]:
        """The highest sample of each stage, and of the sum (`total`), which is below the sum of the peaks
        where stages peak at different times."""
        found = {stage: max(values) for stage, values in self.stages.items()}
        return {"total": max(self.total, default=0), **found}


@dataclass(frozen=True)
class Measurement:
    """A command that has ended. `sampler_cpu_share` is of one core; bytes are PSS or RSS, as `unit` says."""

    command: list[str]
    exit_code: int
    seconds: float
    unit: str
    interval: float
    longest_gap: float
    sampler_cpu_share: float
    processes: int
    peaks: dict[str, int]
    series: Series

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Sampler:
    """A thread that samples the process `root` and its descendants until it is stopped.

    A descendant that was seen once is followed also when its parent has ended.
    """

    def __init__(
        self,
        root: int,
        stage_of: Callable[[psutil.Process], str],
        interval: float,
        progress: Callable[[], float] | None = None,
    ) -> None:
        self._stage_of = stage_of
        self._interval = interval
        self._progress = progress
        self._root = root
        self._done = threading.Event()
        self._started = time.monotonic()
        self._alive: set[psutil.Process] = set()
        self._error: BaseException | None = None
        self.series = Series()
        #: How many processes were met in any sample.
        self.processes = 0
        #: CPU seconds of the sampling thread.
        self.cpu = 0.0
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin; the first sample is taken at once."""
        self._started = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End. Raises what went wrong in the thread, if anything did."""
        self._done.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def sample(self) -> None:
        """Take one sample now."""
        at = time.monotonic() - self._started
        sums: dict[str, int] = {}
        for process in self._tree():
            # A process may end at any moment, also between two of these lines.
            with suppress(psutil.Error):
                stage = self._stage_of(process)
                sums[stage] = sums.get(stage, 0) + pss_bytes(process.pid)
        if sums:
            self.series.add(at, sums, self._progress() if self._progress else None)

    def _tree(self) -> set[psutil.Process]:
        found = _with_descendants(self._root)
        # A process equals another of the same id only where both began at the same moment.
        for process in self._alive - found:
            if process.is_running():
                found |= _with_descendants(process.pid)
        self.processes += len(found - self._alive)
        self._alive = found
        return found

    def _run(self) -> None:
        try:
            due = self._started
            while True:
                self.sample()
                self.cpu = time.thread_time()
                due = max(due + self._interval, time.monotonic())
                if self._done.wait(due - time.monotonic()):
                    return
        except BaseException as error:
            self._error = error


def measure(
    command: Sequence[str],
    stage_of: Callable[[psutil.Process], str],
    interval: float = 0.5,
    progress: Callable[[], float] | None = None,
    while_running: Callable[[subprocess.Popen[bytes]], None] | None = None,
    env: Mapping[str, str] | None = None,
    stderr: Path | None = None,
) -> Measurement:
    """Run a command to its end and sample it each `interval` seconds.

    Signals that ask this process to end are passed on to the command. `stderr` names a file for what the
    command says; None leaves its outputs alone. Raises `CommandError` where it can't be started.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        pass_on = stack.enter_context(_passing_signals())
        sink = stack.enter_context(open(stderr, "wb")) if stderr else None
        try:
            process = subprocess.Popen(command, env=env, stdout=sink, stderr=sink)
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            raise CommandError(f"{command[0]}: {error.strerror}", code) from None
        pass_on(process)
        sampler = Sampler(process.pid, stage_of, interval, progress)
        sampler.start()
        try:
            if while_running is not None:
                while_running(process)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            sampler.stop()
    seconds = time.monotonic() - started
    at = [0.0, *sampler.series.seconds]
    return Measurement(
        command=list(command),
        exit_code=128 - code if code < 0 else code,
        seconds=round(seconds, 3),
        unit=UNIT,
        interval=interval,
        longest_gap=round(max((b - a for a, b in pairwise(at)), default=0.0), 3),
        sampler_cpu_share=round(sampler.cpu / seconds, 5),
        processes=sampler.processes,
        peaks=sampler.series.peaks(),
        series=sampler.series,
    )


def _with_descendants(pid: int) -> set[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return {process, *process.children(recursive=True)}
    except psutil.Error:
        return set()


@contextmanager
def _passing_signals() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Hands SIGTERM and SIGUSR1 on to the process that the function is called with, those that come before
    the call included; a Ctrl-C reaches a command by itself. Does nothing outside of a main thread."""
    early: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            return
        early.append(number)
        for process in running:
            process.send_signal(number)

    def begin(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        # One that comes just now may be sent twice, which is better than never.
        for number in early:
            process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield begin
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield begin
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
