"""Whole runs of the engine, and other programs, as processes of their own that the clock times."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import BenchError, summary_of
from engine.runtime.report.summary import SpeedOfLight, Summary

#: Characters of what a program said that an error repeats.
TOLD = 600


@dataclass(frozen=True)
class Run:
    """A run of the engine: seconds of the clock from its start to its end, and its `summary.json`."""

    wall_s: float
    summary: Summary
    database: Path

    @property
    def speed(self) -> SpeedOfLight:
        """Its speed against what is possible. Raises `BenchError` where it was too short for that."""
        if self.summary.speed_of_light.ratio is None:
            raise BenchError(f"{self.summary.speed_of_light.advice}; give the case more to do")
        return self.summary.speed_of_light

    @property
    def rate(self) -> float:
        """Tokens or pictures a second, from the first batch to the last acknowledgement."""
        return self.speed.end_to_end or 0.0

    @property
    def bound(self) -> float:
        """End to end ÷ what is possible."""
        return self.speed.ratio or 0.0

    @property
    def start_s(self) -> float:
        """Seconds until the first batch."""
        return self.speed.start_s or 0.0

    @property
    def working_s(self) -> float:
        """Seconds from the first batch to the end of the run, without its start-up."""
        return self.summary.seconds - self.start_s


class Engine:
    """Runs `engine.run` into a fresh LanceDB below `work`, with a cache of its own that stays there."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._env = {**os.environ, "VECTOR_ENGINE_CACHE": str(work / "cache")}

    def run(self, corpus: Path, *options: str) -> Run:
        """Raises `BenchError` where it doesn't end with everything indexed."""
        folder = self._work / "engine"
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "engine.run", str(corpus), "--quiet", "--run-dir", f"{folder}/run"]
        command += ["--adapter", f"lancedb://{folder}/db", *options]
        seconds, _ = timed(command, self._env)
        return Run(seconds, summary_of(folder / "run"), folder / "db")


def timed(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Seconds of the clock that a program took, and what it printed. Raises `BenchError` where it failed."""
    began = time.perf_counter()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        told = (done.stderr + done.stdout).strip()[-TOLD:]
        raise BenchError(f"{' '.join(command[:4])} … ended with {done.returncode}: {told}")
    return seconds, done.stdout


def answer(printed: str) -> dict[str, Any]:
    """The object in JSON on the last line that a program printed."""
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


def texts_of(database: Path) -> list[str]:
    """The texts of all records in a LanceDB, sorted."""
    import adapters

    adapter = adapters.connect(f"lancedb://{database}")
    try:
        return sorted(str(row["text"]) for row in adapter.scan() if row["kind"] == "text")
    finally:
        adapter.close()


def folder_of(work: Path, name: str) -> Path:
    """An empty folder of that name below `work`."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
