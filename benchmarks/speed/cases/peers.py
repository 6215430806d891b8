"""Files to LanceDB by the engine, by EmbedAnything and by LangChain with the same model: whose is fastest?

    benchmarks/speed/peers/install FOLDER                                   once
    python -m benchmarks.speed.cases peers --cache FOLDER

Texts of 20,000 characters, then files of 16 to 256 tokens; MiniLM-L6 for all. EmbedAnything (candle, ONNX)
first over a small corpus with several sizes of batch, then with the best of them in the rounds; LangChain and
the engine by their defaults, the engine's export and calibration in the cache. A round runs each once, as a
process of its own. Characters a second are counted from the loaded model (the engine: its first batch) to the
end of the program's work, so that corpora may differ in size: candle, which is slow, has a smaller one.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.memory.peers import embed_anything
from benchmarks.speed import prose
from benchmarks.speed.bench import Outcome, spread
from benchmarks.speed.runs import Engine, answer, folder_of, timed

#: Times the better backend of EmbedAnything.
GOAL = 4.0

BACKENDS = ("candle", "onnx")
OURS, LANGCHAIN = "this engine", "LangChain"

#: Characters of a file.
FILE = 20_000

LOADERS = Path(__file__).resolve().parent.parent / "peers"


@dataclass(frozen=True)
class Corpus:
    """A folder of texts and their characters together."""

    folder: Path
    characters: int


@dataclass(frozen=True)
class Result:
    """One program over a corpus: characters a second with the model loaded, and seconds of the process."""

    rate: float
    wall_s: float
    records: int


#: Makes a folder of texts of about so many characters.
Maker = Callable[[Path, int], None]


def _write_texts(folder: Path, characters: int) -> None:
    for number in range(math.ceil(characters / FILE)):
        prose.write_long(folder / f"{number}.txt", min(FILE, characters - number * FILE), seed=number)


MIXTURES: dict[str, Maker] = {"texts": _write_texts, "mixed files": prose.write_mixed}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The case's own options."""
    parser.set_defaults(rounds=3)
    add = parser.add_argument
    add("--cache", type=Path, required=True, metavar="FOLDER", help="where `install` has put it all")
    add("--kilobytes", type=int, default=300, metavar="KB", help="of each corpus (default 300)")
    add("--candle-kilobytes", type=int, default=20, metavar="KB", help="of candle's (default 20)")
    add("--trial-kilobytes", type=int, default=130, metavar="KB",
        help="of the corpora for the sizes of batch; candle's are a quarter (default 130)")  # fmt: skip
    add("--batches", type=int, nargs="+", default=[8, 32, 128], metavar="N", help="(default 8 32 128)")


def run(args: argparse.Namespace, work: Path) -> Outcome:
    """The case."""
    outcome = Outcome()
    cache = args.cache.absolute()
    embed_anything(cache)
    if not (cache / "langchain").exists():
        raise BenchError(f"--cache {cache}: LangChain isn't there; benchmarks/speed/peers/install {cache}")
    engine = Engine(work)
    for mixture, make in MIXTURES.items():
        works = _works(args, outcome, engine, cache, work, mixture)
        engine.run(_corpus(work, "first", make, args.candle_kilobytes).folder)  # exports, measures the model
        found: dict[str, list[Result]] = {name: [] for name in works}
        for _ in range(args.rounds):
            for name, (_, once) in works.items():
                found[name].append(once())
        for name, (corpus, _) in works.items():
            outcome.rows.append({
                "corpus": mixture,
                "by": name,
                "characters": f"{corpus.characters:,}",
                "records": f"{found[name][-1].records:,}",
                "characters/s, loaded": spread([one.rate for one in found[name]]),
                "whole process, s": spread([one.wall_s for one in found[name]], ".1f"),
            })  # fmt: skip
        _judge(outcome, mixture, {name: [one.rate for one in all_] for name, all_ in found.items()})
    return outcome


def _works(
    args: argparse.Namespace, outcome: Outcome, engine: Engine, cache: Path, work: Path, mixture: str
) -> dict[str, tuple[Corpus, Callable[[], Result]]]:
    """Each system with its corpus; EmbedAnything with its best size of batch."""
    make = MIXTURES[mixture]
    whole = _corpus(work, "whole", make, args.kilobytes)
    corpora = {"onnx": whole, "candle": _corpus(work, "candle", make, args.candle_kilobytes)}
    sizes = {"onnx": args.trial_kilobytes, "candle": math.ceil(args.trial_kilobytes / 4)}
    works: dict[str, tuple[Corpus, Callable[[], Result]]] = {OURS: (whole, lambda: _ours(engine, whole))}
    for backend in BACKENDS:
        trial = _corpus(work, "trial", make, sizes[backend])
        rates = {size: _embed_anything(cache, work, backend, size, trial).rate for size in args.batches}
        best = max(rates, key=rates.__getitem__)
        told = ", ".join(f"{size}: {rate:,.0f}" for size, rate in rates.items())
        outcome.said.append(f"{mixture}: EmbedAnything, {backend}, characters/s by size of batch: {told}")
        one = partial(_embed_anything, cache, work, backend, best, corpora[backend])
        works[f"EmbedAnything 0.7.1, {backend}, batch {best}"] = (corpora[backend], one)
    works[LANGCHAIN] = (whole, lambda: _langchain(cache, work, whole))
    return works


def _judge(outcome: Outcome, mixture: str, rates: dict[str, list[float]]) -> None:
    """The goal is against the better of EmbedAnything's backends."""
    gains = {
        name: [mine / one for mine, one in zip(rates[OURS], each, strict=True)]
        for name, each in rates.items()
        if name != OURS
    }
    least = min(statistics.median(each) for name, each in gains.items() if name != LANGCHAIN)
    outcome.goal(f"{mixture}: characters/s ÷ EmbedAnything's, its better backend", least, GOAL)
    outcome.said += [f"  ÷ {name}: {spread(each, '.2f')}" for name, each in gains.items()]


def _corpus(work: Path, name: str, make: Maker, kilobytes: int) -> Corpus:
    folder = folder_of(work, name)
    make(folder, 1000 * kilobytes)
    return Corpus(folder, sum(path.stat().st_size for path in folder.rglob("*.txt")))


def _ours(engine: Engine, corpus: Corpus) -> Result:
    made = engine.run(corpus.folder)
    return Result(corpus.characters / made.working_s, made.wall_s, made.summary.totals.records)


def _embed_anything(cache: Path, work: Path, backend: str, batch: int, corpus: Corpus) -> Result:
    python, env = embed_anything(cache)
    loader = str(LOADERS / "embed_anything_load.py")
    database = str(folder_of(work, "peer"))
    wall, printed = timed([python, loader, backend, str(batch), str(corpus.folder), database], env)
    return _result(corpus, wall, printed)


def _langchain(cache: Path, work: Path, corpus: Corpus) -> Result:
    _, env = embed_anything(cache)
    python, loader = str(cache / "langchain" / "bin" / "python"), str(LOADERS / "langchain_load.py")
    database = str(folder_of(work, "peer"))
    command = [python, "-W", "ignore", loader, str(cache / "minilm"), str(corpus.folder), database]
    wall, printed = timed(command, env)
    return _result(corpus, wall, printed)


def _result(corpus: Corpus, wall: float, printed: str) -> Result:
    told = answer(printed)
    if not told["records"]:
        raise BenchError("a peer has written nothing")
    return Result(corpus.characters / told["seconds"], wall, told["records"])
