"""How many ready chunks a second do channels, inference loop, indexer and ledger carry, at what cost each?

The parsers hand over chunks of 256 tokens that are ready and the model is a stand-in that costs next to
nothing, so that what is left is what moves and books them. Then each hand-over alone, in one process, in µs
of CPU for a chunk.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NoReturn

import adapters
from adapters.base import AdapterOptions
from benchmarks.command import BenchError
from benchmarks.speed.bench import Outcome, interleaved, spread
from benchmarks.speed.ready import ReadyStage
from engine.models.load import load_text
from engine.models.resolve import resolve_text
from engine.models.spec import TextSpec
from engine.records import ChunkerIdentity, IndexSchema, ModelInfo
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.sources.local import local_item
from engine.stages.index import IndexStage
from engine.stages.infer import InferStage
from engine.stages.parse import FileJob
from engine.stages.repeats import Remembered
from engine.stages.segment import EmbeddedSegment, Segment, TextSegment

#: Chunks a second, of all processes on two cores.
GOAL = 20_000

#: Of MiniLM-L6's size.
MODEL = "stand-in:384"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    add = parser.add_argument
    add("--chunks", type=int, default=200_000, metavar="N", help="of a run (default 200,000)")
    add("--files", type=int, default=8, metavar="N", help="that they come in (default 8)")
    add("--segment", type=int, default=224, metavar="N", help="chunks of a segment (default 224: 256 KiB)")
    add("--runs", type=int, default=3, metavar="N", help="(default 3)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    found = [_run(args, work / f"run-{number}") for number in range(args.runs)]
    rates = [one["chunks"] / one["seconds"] for one in found]
    names = sorted({name for one in found for name in one["cpu_us"]})
    for name in names:
        values = [one["cpu_us"].get(name, 0.0) for one in found]
        outcome.rows.append({"process or hand-over": name, "µs of CPU a chunk": spread(values, ".1f")})
    for name, values in _hand_overs(args, work).items():
        outcome.rows.append({"process or hand-over": name, "µs of CPU a chunk": spread(values, ".1f")})
    outcome.goal("chunks/s into LanceDB, median", statistics.median(rates), GOAL, ",.0f")
    outcome.said.append(f"  of {spread(rates)}, {256 * max(rates) / 1e6:.1f} M tokens/s at most")
    return outcome


def _run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number in range(args.files):
        (corpus / f"{number}.txt").write_text(str(args.chunks // args.files), encoding="ascii")
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "benchmarks.speed.ready", str(figures), str(args.segment), "--"]
    command += [str(corpus), "--run-dir", str(folder / "run"), "--adapter", f"lancedb://{folder}/db"]
    command += ["--quiet", "--text-model", MODEL, "--workers", "1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BenchError(f"engine.run ended with {done.returncode}: {done.stderr[-600:]}")
    shutil.rmtree(folder / "db")
    measured: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    return measured


def _hand_overs(args: argparse.Namespace, work: Path) -> dict[str, list[float]]:
    """µs of CPU a chunk of each hand-over, in this process."""
    spec = resolve_text(MODEL)
    chunks = 10 * args.segment
    file = work / "chunks.txt"
    file.write_text(str(chunks), encoding="ascii")
    job = FileJob(1, local_item(str(file)))
    ready = ReadyStage(spec.dimensions, args.segment)

    def segments() -> list[TextSegment]:
        return [item for item in ready.parse(job) if isinstance(item, TextSegment)]

    model = load_text(spec, "cpu", "float32", "torch")
    # Each round embeds the same chunks.
    infer = InferStage(lambda: model, _no_pictures, remembered=Remembered(0))

    def embedded() -> list[EmbeddedSegment]:
        return [made.segment for made in infer.embed(segments())]

    plain, whole = segments(), embedded()
    with tempfile.TemporaryDirectory(dir=work) as folder:
        ledger = Ledger(Path(folder))
        works: dict[str, Callable[[], object]] = {
            "(making ready chunks)": segments,
            "codec, parser → inference": lambda: [_over(segment) for segment in plain],
            "(making, and the stand-in)": embedded,
            "codec, inference → indexer": lambda: [_over(segment) for segment in whole],
            "indexer to memory": _writer(f"memory://{folder}", spec, whole),
            "indexer to LanceDB": _writer(f"lancedb://{folder}/db", spec, whole),
            "ledger": lambda: _book(ledger, whole),
        }
        timed = interleaved(works, args.rounds)
        ledger.close()
    return {name: [1e6 * seconds / chunks for seconds in one.cpu] for name, one in timed.items()}


def _no_pictures() -> NoReturn:
    raise BenchError("no pictures here")


def _over(segment: Segment) -> Segment:
    """As `Connection.send` and `recv` have it, but for the pipe between them."""
    received: Segment = pickle.loads(ForkingPickler.dumps(segment))
    return received


def _writer(url: str, spec: TextSpec, segments: list[EmbeddedSegment]) -> Callable[[], object]:
    adapter = adapters.connect(url, AdapterOptions())
    info = ModelInfo(spec.name, spec.digest, spec.dimensions, True)
    adapter.ensure_schema(IndexSchema(info, None, ChunkerIdentity.from_key("chunker")))
    adapter.prepare()
    stage = IndexStage(adapter, {"text": spec.name})

    def write() -> None:
        for segment in segments:
            stage.add(segment)
            if stage.due_in() == 0.0:
                stage.flush()
        stage.flush()

    return write


def _book(ledger: Ledger, segments: Sequence[Segment]) -> None:
    """As often as the supervisor commits where all goes well: about once for each of these."""
    ledger.segments.acknowledge([
        Acknowledged(1, 0, s.ordinal, s.after, s.page, s.checkpoint, bytes.fromhex("".join(s.ids)), True)
        for s in segments
    ])  # fmt: skip
    ledger.commit()
