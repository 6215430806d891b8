"""A run of ready chunks, as `benchmarks.speed.ready` has it, that tells how far it is while it goes on.

    python -m benchmarks.speed.traced TRACE.jsonl CHUNKS -- OPTIONS OF engine.run

Appends a line to TRACE.jsonl five times a second while there is an indexer: seconds of the monotonic clock,
the records that are acknowledged by then, and of the indexer its process id, its PSS in bytes and its CPU
seconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from unittest.mock import patch

import psutil

from benchmarks.memory.stages import ENGINE_SCORES
from benchmarks.speed.ready import ready_parser
from engine import run
from engine.machine.memory import pss_bytes
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.segments import ID_BYTES
from engine.runtime.process import messages as m
from engine.runtime.workers import parser

#: Seconds between two lines.
INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Sample:
    """One line. `at` and `cpu` are seconds, `pss` bytes."""

    at: float
    records: int
    indexer: int
    pss: int
    cpu: float


class Trace:
    """Counts what is acknowledged, and writes it down."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: int | None = None
        self._done = threading.Event()

    def written(self, accounts: Accounts, message: m.SegmentWritten) -> None:
        """The database has answered for a segment, which is not booked yet."""
        if self._records is None:
            self._records = accounts._ledger.audit.totals()["records"]
        self._records += len(message.ids) // ID_BYTES

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Writes lines as long as the block lasts."""
        thread = threading.Thread(target=self._run, name="trace", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _run(self) -> None:
        while not self._done.wait(INTERVAL_S):
            sample = self._sample()
            if sample is not None:
                with open(self._path, "a", encoding="ascii") as file:
                    file.write(json.dumps(astuple(sample)) + "\n")

    def _sample(self) -> Sample | None:
        try:
            for process in psutil.Process().children():
                score = int(Path(f"/proc/{process.pid}/oom_score_adj").read_text(encoding="ascii"))
                if ENGINE_SCORES.get(score) == "indexer":
                    times, size = process.cpu_times(), pss_bytes(process.pid)
                    cpu = times.user + times.system
                    return Sample(time.monotonic(), self._records or 0, process.pid, size, cpu)
        except (psutil.Error, OSError):
            pass  # ended meanwhile
        return None


def main() -> int:
    """The command."""
    trace, written = Trace(Path(sys.argv[1])), Accounts.written

    def watched(accounts: Accounts, message: m.SegmentWritten) -> None:
        trace.written(accounts, message)
        written(accounts, message)

    with (
        patch.object(parser, "main", ready_parser),
        patch.object(Accounts, "written", watched),
        trace.going_on(),
    ):
        return run.main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
