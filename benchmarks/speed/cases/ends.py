"""Files to LanceDB by the engine, as fast as the library embeds the same chunks in memory, or faster?

A round is, for each mixture of lengths: a product of matrices, which tells the machine's float32 peak; the
whole of `engine.run` by its defaults, with its export and calibration in the cache; and a process that loads
`SentenceTransformer` and encodes by its defaults the same chunks, read back from the database before. Both
are timed by the clock as whole processes; and the engine from its first batch to the last acknowledgement
(`summary.json`) against `encode` with the model loaded. Uniform: one long text, in full chunks. Mixed: files
of 16 to 256 tokens, evenly. Texts don't repeat, so that nothing is spared by `--dedupe`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.speed import prose
from benchmarks.speed.backends import PEAK, PEAK_SIZE, PEAK_TIMES, Worker, flop, token_ids
from benchmarks.speed.bench import Outcome, spread
from benchmarks.speed.runs import Engine, answer, folder_of, texts_of, timed
from engine.machine.processor import machine
from engine.models.resolve import resolve_text

#: End to end ÷ the bound; the whole process ÷ encode's, with start-up, on a megabyte of text.
GOAL_BOUND, GOAL_WHOLE = 0.95, 1.3

#: Times encode's rate by mixture, and share of the float32 peak, by instructions that the processor has.
GOALS = {
    "avx512_bf16": {"uniform": 2.2, "mixed": 2.2},
    "avx2": {"uniform": 1.45, "mixed": 2.4, "share": 0.78},
}

#: How far the engine's count of tokens may be from that of the chunks that were read back.
TOLERANCE = 0.001


@dataclass
class Rounds:
    """What each round of one mixture gave."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    bound: list[float] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    our_wall: list[float] = field(default_factory=list)
    their_wall: list[float] = field(default_factory=list)
    our_start: list[float] = field(default_factory=list)
    their_load: list[float] = field(default_factory=list)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.set_defaults(rounds=3)
    add = parser.add_argument
    add("--megabytes", type=float, default=1.0, metavar="MB", help="of the uniform text (default 1)")
    add("--mixed-megabytes", type=float, default=0.5, metavar="MB", help="of the mixed files (default 0.5)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    engine = Engine(work)
    makers: dict[str, tuple[Callable[[Path, int], None], float]] = {
        "uniform": (lambda folder, size: prose.write_long(folder / "long.txt", size), args.megabytes),
        "mixed": (prose.write_mixed, args.mixed_megabytes),
    }
    with tempfile.TemporaryDirectory() as vectors:
        peak = Worker(PEAK, 1, Path(vectors))
        for name, (make, megabytes) in makers.items():
            corpus = folder_of(work, name)
            make(corpus, round(1e6 * megabytes))
            rounds, mean = _rounds(engine, corpus, work / f"{name}.json", peak, args.rounds)
            _tell(outcome, f"{name}, {mean:.0f} tokens a chunk", rounds)
            _judge(outcome, name, rounds, megabytes)
        peak.close()
    return outcome


def _rounds(engine: Engine, corpus: Path, chunks: Path, peak: Worker, count: int) -> tuple[Rounds, float]:
    """So many rounds over a corpus, and the mean length of its chunks."""
    # Exports and measures the model where that isn't in the cache yet, and leaves the chunks.
    texts = texts_of(engine.run(corpus).database)
    chunks.write_text(json.dumps(texts), encoding="utf-8")
    lengths = [len(ids) for ids in token_ids(texts)]
    tokens, work = sum(lengths), flop(lengths)
    encode = [
        sys.executable,
        "-m",
        "benchmarks.speed.reference",
        "encode",
        str(resolve_text().folder),
        str(chunks),
    ]
    found = Rounds()
    for _ in range(count):
        flops = PEAK_TIMES * 2 * PEAK_SIZE**3 / peak.run("uniform 256")["seconds"]
        ours = engine.run(corpus)
        if abs(ours.summary.tokens - tokens) > TOLERANCE * tokens:
            raise BenchError(f"{ours.summary.tokens} tokens were embedded, the chunks have {tokens}")
        their_wall, printed = timed(encode)
        theirs = answer(printed)
        rate = ours.rate
        found.ours.append(rate)
        found.theirs.append(tokens / theirs["seconds"])
        found.bound.append(ours.bound)
        found.share.append(rate * work / tokens / flops)
        found.our_wall.append(ours.wall_s)
        found.their_wall.append(their_wall)
        found.our_start.append(ours.start_s)
        found.their_load.append(theirs["load_s"])
    return found, tokens / len(lengths)


def _tell(outcome: Outcome, what: str, found: Rounds) -> None:
    rows = (
        ("engine, files to LanceDB", found.ours, found.our_wall, found.our_start),
        ("encode, in memory", found.theirs, found.their_wall, found.their_load),
    )
    for by, rate, wall, start in rows:
        outcome.rows.append({
            "chunks": what,
            "by": by,
            "tokens/s, warm": spread(rate),
            "whole process, s": spread(wall, ".1f"),
            "of it start-up": spread(start, ".1f"),
        })  # fmt: skip


def _judge(outcome: Outcome, name: str, found: Rounds, megabytes: float) -> None:
    goals = GOALS["avx512_bf16" if "avx512_bf16" in str(machine()["flags"]).split() else "avx2"]
    gains = [ours / theirs for ours, theirs in zip(found.ours, found.theirs, strict=True)]
    outcome.goal(f"{name}: warm, tokens/s ÷ encode's", statistics.median(gains), goals[name])
    outcome.said.append(f"  of {spread(gains, '.2f')}")
    outcome.goal(f"{name}: end to end ÷ the bound", statistics.median(found.bound), GOAL_BOUND, ".3f")
    outcome.said.append(f"  of {spread(found.bound, '.3f')}")
    what, share = f"{name}: share of the float32 matrix peak", statistics.median(found.share)
    if "share" in goals and name == "uniform":
        outcome.goal(what, share, goals["share"])
        outcome.said.append(f"  of {spread(found.share, '.2f')}")
    else:
        outcome.said.append(f"{what}: {spread(found.share, '.2f')}")
    whole = [theirs / ours for ours, theirs in zip(found.our_wall, found.their_wall, strict=True)]
    what = f"{name}: whole processes on {megabytes:g} MB, encode's seconds ÷ ours"
    if name == "uniform":
        outcome.goal(what, statistics.median(whole), GOAL_WHOLE)
        outcome.said.append(f"  of {spread(whole, '.2f')}")
    else:
        outcome.said.append(f"{what}: {spread(whole, '.2f')}")
