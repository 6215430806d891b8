"""Run the engine as a user does, and look into the database afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import adapters

#: Seconds after which a run counts as hung.
HANG_S = 300.0

#: Fields of a record that are the same whenever it was written (size and mtime are the file's of that time).
LASTING_FIELDS = (
    "source", "kind", "page", "position", "start", "end", "text", "content_hash", "media_type",
)  # fmt: skip

#: Seconds to wait for something that a run does early.
SOON_S = 120.0


@dataclass
class Corpus:
    """A folder of files, and a place for run directories and databases beside it."""

    root: Path
    files: Path = field(init=False)

    def __post_init__(self) -> None:
        self.files = self.root / "corpus"
        self.files.mkdir()

    def write(self, name: str, text: str) -> Path:
        """A text file of the corpus."""
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def url(self) -> str:
        """The database of this corpus."""
        return f"lancedb://{self.root}/db"

    @property
    def run_dir(self) -> Path:
        """The run directory of this corpus."""
        return self.root / "run"

    def command(self, *options: str, text_model: str = "stand-in:16", url: str | None = None) -> list[str]:
        """The command line of a run over the corpus."""
        return [
            sys.executable, "-m", "engine.run", str(self.files), "--adapter", url or self.url,
            "--run-dir", str(self.run_dir), "--text-model", text_model, "--image-model", "stand-in:8",
            *options,
        ]  # fmt: skip

    def run(self, *options: str, text_model: str = "stand-in:16", url: str | None = None) -> Result:
        """Run to the end. Fails the test where that takes longer than `HANG_S`."""
        done = subprocess.run(
            self.command(*options, text_model=text_model, url=url),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=HANG_S,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr, self.run_dir)

    @contextmanager
    def started(self, *options: str, text_model: str = "stand-in:16") -> Iterator[psutil.Popen]:
        """A run in a process group of its own, killed at the end of the block.

        Each segment is written by itself, so that a test sees the run's progress, and the same text counts
        each time, so that it takes as long as its length says.
        """
        command = self.command("--bulk-bytes", "512", "--no-dedupe", *options, text_model=text_model)
        process = psutil.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            yield process
        finally:
            kill_group(process.pid)
            process.wait(HANG_S)
            process.stderr.close()

    def records(self, url: str | None = None) -> dict[str, dict[str, object]]:
        """Every record of the database by its id; fails where an id is there twice."""
        adapter = adapters.connect(url or self.url)
        found: dict[str, dict[str, object]] = {}
        for record in adapter.scan(with_embeddings=True):
            assert record["id"] not in found, f"{record['id']} is in the database twice"
            found[str(record["id"])] = record
        adapter.close()
        return found


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    code: int
    out: str
    err: str
    run_dir: Path

    @property
    def summary(self) -> dict[str, Any]:
        """`summary.json`."""
        content: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text())
        return content

    @property
    def files(self) -> dict[str, int]:
        """The file counts that are not zero."""
        return {name: count for name, count in self.summary["files"].items() if count}

    def lines(self, name: str) -> list[dict[str, object]]:
        """The objects of a `.jsonl` file of the run directory."""
        return [json.loads(line) for line in (self.run_dir / name).read_text().splitlines()]


def kill_group(pid: int) -> None:
    """SIGKILL every process of a group, as a batch system or a power cut would."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        return


def wait_until(condition: Callable[[], object], seconds: float = SOON_S) -> None:
    """Fail where the condition doesn't come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def same_vectors(one: dict[str, dict[str, object]], other: dict[str, dict[str, object]]) -> bool:
    """Whether two sets of records have the same ids, texts and vectors."""
    return one.keys() == other.keys() and all(same_record(one[key], other[key]) for key in one)


def same_record(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether two records agree in all that doesn't tell when and by what name of a model they were made."""
    if any(one[name] != other[name] for name in LASTING_FIELDS):
        return False
    for name in ("text_embedding", "image_embedding"):
        mine, theirs = one.get(name), other.get(name)
        if (mine is None) != (theirs is None) or (mine is not None and not np.array_equal(mine, theirs)):  # type: ignore[arg-type]
            return False
    return True
