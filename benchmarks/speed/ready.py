"""A run of the engine whose parsers parse nothing: they hand over chunks of 256 tokens that are ready.

    python -m benchmarks.speed.ready FIGURES.json CHUNKS -- OPTIONS OF engine.run

Each input file is a number of chunks, and a word: with another word they are other chunks. A segment has
CHUNKS of them. Whenever a file is parsed again, ids and vectors are the same, and what is done is left out.
When the run is over FIGURES.json holds what passed between the database's first acknowledgement and its last:
chunks, seconds, and the CPU seconds of each process.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil

from benchmarks.memory.stages import ENGINE_SCORES
from engine import run
from engine.models.spec import TextSpec
from engine.records import Chunk
from engine.runtime.ledger.accounts import Accounts
from engine.runtime.ledger.segments import ID_BYTES
from engine.runtime.process import messages as m
from engine.runtime.process.current_item import CurrentItem
from engine.runtime.process.mailbox import Mailbox, run_child
from engine.runtime.workers import parser
from engine.stages.parse import FileEnd, FileJob, Parsed
from engine.stages.segment import RECORD_OVERHEAD_BYTES, SUBS_PER_UNIT, TextSegment

#: Tokens of a chunk, and characters: 4.5 for each token, as English prose has.
TOKENS, CHARACTERS = 256, 1152

#: Different chunks; a number in front makes each chunk another one.
POOL = 256

#: Seconds between two looks at the processes' CPU times.
INTERVAL_S = 0.5


class ReadyStage:
    """In place of the parse stage: a file is its number of chunks, and costs as little as can be."""

    def __init__(self, dimensions: int, chunks: int) -> None:
        self._chunks = chunks
        chance = random.Random(1)
        words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 8))) for _ in range(4096)]
        self._texts = [" ".join(chance.choices(words, k=CHARACTERS))[:CHARACTERS] for _ in range(POOL)]
        self._ids = np.random.default_rng(1).integers(1000, 30_000, (chunks, TOKENS)).astype(np.int32)
        self._size = CHARACTERS + 4 * (TOKENS + dimensions) + RECORD_OVERHEAD_BYTES

    def parse(self, job: FileJob) -> Iterator[Parsed]:
        """As `ParseStage.parse`."""
        content = Path(job.item.location).read_text(encoding="ascii")
        chunks = int(content.split()[0])
        end = FileEnd("parsed", "text", "text/plain", bytes_read=chunks * CHARACTERS)
        for number, first in enumerate(range(0, chunks, self._chunks)):
            ordinal = number * SUBS_PER_UNIT
            if ordinal > job.last and ordinal not in job.done:
                count = min(chunks - first, self._chunks)
                yield self._segment(job, first_id(job.item.uri, content), number, first, count)
                end.segments += 1
                end.chunks += count
        yield end

    def _segment(self, job: FileJob, name: int, number: int, first: int, count: int) -> TextSegment:
        ids = self._ids[:count].copy()
        ids[:, 1], ids[:, 2] = name >> 97, np.arange(first, first + count)
        chunks = [
            Chunk(
                i * CHARACTERS, (i + 1) * CHARACTERS, f"{i} {self._texts[i % POOL]}", ids[i - first], TOKENS
            )
            for i in range(first, first + count)
        ]
        return ready_segment(job, name, number, chunks, count * self._size)


def first_id(source: str, content: str) -> int:
    """The id of a file's first chunk as a number; the others follow it."""
    digest = hashlib.blake2b(f"{source}\0{content}".encode(), digest_size=16).digest()
    return int.from_bytes(digest) >> 40 << 40


def ready_segment(job: FileJob, name: int, number: int, chunks: list[Chunk], size: int) -> TextSegment:
    """A text segment of these chunks, with ids and hashes that are digests of nothing."""
    names = [(name | chunk.start).to_bytes(16).hex() for chunk in chunks]
    return TextSegment(
        attempt=job.attempt,
        ordinal=number * SUBS_PER_UNIT,
        after=(number - 1) * SUBS_PER_UNIT if number else -1,
        checkpoint="[null, 0, 0]",
        source=job.item.uri,
        media_type="text/plain",
        page=None,
        mtime_ns=job.item.mtime_ns,
        file_size=job.item.size,
        size=size,
        maybe_present=job.maybe_present,
        ids=names,
        hashes=[name + name for name in names],
        starts=[chunk.start for chunk in chunks],
        ends=[chunk.end for chunk in chunks],
        texts=[chunk.text for chunk in chunks],
        lengths=[chunk.tokens for chunk in chunks],
        token_ids=np.concatenate([chunk.token_ids for chunk in chunks if chunk.token_ids is not None]),
    )


def ready_parser(
    control: Connection,
    run_dir: str,
    output: Connection,
    current_item: CurrentItem,
    text_spec: TextSpec,
    *rest: object,
) -> None:
    """In place of the parser's entry."""

    def body(mailbox: Mailbox) -> None:
        chunks = int(sys.argv[2])
        parser.Parser(mailbox, output, current_item).run(ReadyStage(text_spec.dimensions, chunks))

    run_child(control, run_dir, body, parser.OOM_SCORE)


class Watch:
    """Counts acknowledged chunks, and the CPU seconds of each process meanwhile."""

    def __init__(self) -> None:
        self.chunks = self._first_chunks = self._last_chunks = 0
        self._first_at = self._last_at = self._looked_at = 0.0
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def written(self, message: m.SegmentWritten) -> None:
        """The database has answered for a segment."""
        self._last_at = time.monotonic()
        self.chunks += len(message.ids) // ID_BYTES
        if not self._first:
            self._first_at, self._first_chunks, self._first = self._last_at, self.chunks, cpu_seconds()
        if self._last_at - self._looked_at > INTERVAL_S:
            self._looked_at, self._last, self._last_chunks = self._last_at, cpu_seconds(), self.chunks

    def figures(self) -> dict[str, object]:
        """What passed since the first acknowledgement."""
        passed = self._last_chunks - self._first_chunks
        return {
            "chunks": self.chunks - self._first_chunks,
            "seconds": self._last_at - self._first_at,
            "cpu_us": {
                name: 1e6 * (self._last[name] - self._first.get(name, 0.0)) / max(1, passed)
                for name in sorted(self._last)
            },
        }


def cpu_seconds() -> dict[str, float]:
    """CPU seconds so far of this process and its children, by stage."""
    found: dict[str, float] = {}
    here = psutil.Process()
    for process in (here, *here.children()):
        times = process.cpu_times()
        score = int(Path(f"/proc/{process.pid}/oom_score_adj").read_text(encoding="ascii"))
        name = "supervisor" if process == here else ENGINE_SCORES.get(score, "tracker")
        found[name] = found.get(name, 0.0) + times.user + times.system
    return found


def main() -> int:
    """The command."""
    path, options = Path(sys.argv[1]), sys.argv[4:]
    watch, written = Watch(), Accounts.written

    def watched(accounts: Accounts, message: m.SegmentWritten) -> None:
        written(accounts, message)
        watch.written(message)

    with patch.object(parser, "main", ready_parser), patch.object(Accounts, "written", watched):
        code = run.main(options)
    path.write_text(json.dumps(watch.figures()), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
