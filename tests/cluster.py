"""A real SLURM for the tests, started by `scripts/slurm`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "slurm"

#: Seconds for a first start, in which Debian's packages may have to be installed; for a client's answer.
START_SECONDS, ANSWER_SECONDS = 600, 60


@dataclass(frozen=True)
class Cluster:
    """Two nodes, n1 and n2, of four cores each; partitions low and high, which takes nodes from low."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """With which SLURM's clients find it, and this repository's code is found."""
        return os.environ | {"SLURM_CONF": f"{self.folder}/slurm.conf"}

    def call(self, *command: str) -> str:
        """What a client says; fails the test where it doesn't work."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def queue(self, *options: str) -> list[str]:
        """Words of squeue, a line for each task."""
        return self.call("squeue", "-h", "-r", *options).split()

    def batch(self, script: str, *options: str) -> str:
        """Submit a script's text; the job's id."""
        path = self.folder / "script.sh"
        path.write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        return self.call("sbatch", "--parsable", *options, str(path)).partition(";")[0]

    def job(self, job: str, name: str) -> str:
        """One value of what SLURM knows of a job."""
        told = self.call("scontrol", "show", "job", job).split()
        return next(word.partition("=")[2] for word in told if word.startswith(f"{name}="))

    def node(self, action: str, name: str) -> None:
        """Kill a node with all that runs there, or start it again."""
        done = _script("node", action, name, "--folder", str(self.folder))
        assert done.returncode == 0, done.stderr

    def clear(self) -> None:
        """End all jobs."""
        self.call("scancel", "--signal=KILL", "--full", "--user=root")
        self.call("scancel", "--user=root")


@contextmanager
def cluster(*options: str) -> Iterator[Cluster]:
    """A cluster that lives as long as the block. Skips the test where there can be none; fails it in CI."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        started = _script("start", "--folder", str(folder), *options)
        if started.returncode and not os.environ.get("CI"):
            pytest.skip(started.stderr.strip())
        if started.returncode:
            pytest.fail(started.stderr)
        yield Cluster(folder)
    finally:
        _script("stop", "--folder", str(folder))
        shutil.rmtree(folder)


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=START_SECONDS
    )
