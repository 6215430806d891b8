"""How fast, how faithful, and in how much memory does each backend run the text model?

    python -m benchmarks.speed.backends [--rounds 5] [--tokens 20000] [--corpus FOLDER] [--json FILE]

Tokens a second of all-MiniLM-L6-v2 in memory, without files and database: by `SentenceTransformer.encode`
with its defaults, and in each way that the engine has here (torch, ONNX Runtime and OpenVINO, in float32, and
in bfloat16 and int8 where they are to be had), each in a process of its own. A round runs each of them once
on the same inputs, one after another, and a product of two matrices in float32, which tells the machine's
peak at that moment; medians of the rounds with their range, and for each round how much faster than `encode`
it was. Lengths are 256 tokens, or drawn evenly from 16 to 256. `peak` is the share of the peak that the
model's multiplications are (above 100 % is what float32 can't do). `cosine` is to torch's float32, least and
mean. `a core second` counts the processor's seconds: what others do on the machine hardly shows there. Then
the peak PSS of the processes of a whole run over FOLDER (default `examples/corpus`) by backend, pictures
included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np

from benchmarks.command import summary_of
from engine.machine.processor import machine
from engine.models import backends as registry
from engine.models.backends.base import BackendChoice
from engine.models.load import load_image, load_text
from engine.models.probes import cosines
from engine.models.resolve import resolve_image, resolve_text
from engine.records import Vector
from engine.runtime.report.summary import environment

#: The reference, and the process that tells the peak.
ENCODE, PEAK = "encode", "peak"

#: Rows and columns of the matrices whose product tells the peak, and how often they are multiplied.
PEAK_SIZE, PEAK_TIMES = 2_048, 4

#: Least and most tokens of an input, special tokens included.
LENGTHS = {"uniform 256": (256, 256), "mixed 16 to 256": (16, 256)}


class Timing(TypedDict):
    """One pass over a case: seconds of the clock, and of all cores together."""

    seconds: float
    cpu_seconds: float


def compared() -> list[str]:
    """What is compared on this machine, the reference first, then torch's float32."""
    possible = [BackendChoice("torch", "float32")]
    for part in registry.leanest_first():
        if part.installed() and not part.only_own:
            possible += [BackendChoice(part.name, dtype) for dtype in sorted(part.auto_dtypes("cpu"))[::-1]]
            possible += [BackendChoice(part.name, "int8")] if "int8" in part.dtypes else []
    return [ENCODE, *dict.fromkeys(map(str, possible))]


def flop(lengths: Iterable[int], folder: Path | None = None) -> float:
    """Floating-point operations of the multiplications in the model for inputs of these lengths.

    `folder` is that of a BERT; None is the default model's.

    For a token and a layer of width h and intermediate width i: 2 (4 h^2 + 2 h i) by weights, and 4 h n for
    the n tokens that it attends to.
    """
    config = json.loads(Path(folder or str(resolve_text().folder), "config.json").read_text())
    layers, h, i = (int(config[name]) for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    return float(sum(n * layers * (2 * (4 * h * h + 2 * h * i) + 4 * h * n) for n in lengths))


def texts(case: str, tokens: int) -> list[str]:
    """Texts of some `tokens` tokens together, of words that are one token each; the same in every process."""
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(resolve_text().tokenizer_file)).get_vocab()
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)
    chance = random.Random(7)
    least, most = LENGTHS[case]
    made, count = [], 0
    while count < tokens:
        length = chance.randint(least, most)
        made.append(" ".join(chance.choices(words, k=length - 2)))
        count += length
    return made


def token_ids(inputs: Iterable[str]) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    """The ids of the texts, as the parsers make them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(resolve_text().tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [np.array(tokenizer.encode(text).ids, dtype=np.int32) for text in inputs]


def runner(name: str) -> Callable[[Sequence[str]], Callable[[], Vector]]:
    """Loads what is named; what comes back prepares inputs, and what that gives embeds them."""
    if name == PEAK:
        import torch

        matrix = torch.rand(PEAK_SIZE, PEAK_SIZE)

        def multiply() -> Vector:
            for _ in range(PEAK_TIMES):
                product: Vector = (matrix @ matrix)[:1].numpy()
            return product

        return lambda inputs: multiply
    if name == ENCODE:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(resolve_text().folder), device="cpu")
        return lambda inputs: lambda: np.asarray(model.encode(list(inputs), show_progress_bar=False))
    backend, dtype = name.split()
    embedder = load_text(resolve_text(int8=dtype == "int8"), "cpu", dtype, backend)
    if embedder.notes:
        raise RuntimeError(embedder.notes[0])

    def prepare(inputs: Sequence[str]) -> Callable[[], Vector]:
        ids = token_ids(inputs)
        return lambda: embedder.embed_ids(ids)

    return prepare


def work(name: str, tokens: int, vectors: Path) -> int:
    """One process: leaves its vectors of each case, then for each line that names a case says its timing."""
    prepare = runner(name)
    cases = {case: prepare(texts(case, tokens)) for case in LENGTHS}
    np.savez(vectors, allow_pickle=False, **{case: warm() for case, warm in cases.items()})
    print("ready", flush=True)
    for line in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        cases[line.strip()]()
        timing = Timing(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu)
        print(json.dumps(timing), flush=True)
    return 0


class Worker:
    """A process with one backend loaded."""

    def __init__(self, name: str, tokens: int, folder: Path) -> None:
        self._vectors = folder / f"{name}.npz"
        options = ["--worker", name, "--tokens", str(tokens), "--vectors", str(self._vectors)]
        command = [sys.executable, "-m", "benchmarks.speed.backends", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def run(self, case: str) -> Timing:
        """Embed the case once."""
        _open(self._process.stdin).write(case + "\n")
        _open(self._process.stdin).flush()
        timing: Timing = json.loads(self._answer())
        return timing

    def vectors(self, case: str) -> Vector:
        """The vectors of the case."""
        with np.load(self._vectors) as saved:
            found: Vector = saved[case]
            return found

    def _answer(self) -> str:
        line: str = _open(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return line

    def close(self) -> None:
        """End the process."""
        _open(self._process.stdin).close()
        self._process.wait()


def _open(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("a process without pipes")
    return stream


def speeds(rounds: int, tokens: int) -> list[dict[str, Any]]:
    """A row for each case and way."""
    names = compared()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        workers = {name: Worker(name, tokens, Path(folder)) for name in (*names, PEAK)}
        for case in LENGTHS:
            lengths = [len(ids) for ids in token_ids(texts(case, tokens))]
            total = sum(lengths)
            rounds_of = [{name: worker.run(case) for name, worker in workers.items()} for _ in range(rounds)]
            for name in names:
                each = [timing[name] for timing in rounds_of]
                peaks = [PEAK_TIMES * 2 * PEAK_SIZE**3 / timing[PEAK]["seconds"] for timing in rounds_of]
                rates = [total / timing["seconds"] for timing in each]
                near = cosines(workers[name].vectors(case), workers["torch float32"].vectors(case))
                shares = [
                    flop(lengths) / timing["seconds"] / peak for timing, peak in zip(each, peaks, strict=True)
                ]
                gains = [timing[ENCODE]["seconds"] / timing[name]["seconds"] for timing in rounds_of]
                rows.append({
                    "case": case,
                    "way": name,
                    "tokens_per_s": statistics.median(rates),
                    "slowest": min(rates),
                    "fastest": max(rates),
                    "gain": statistics.median(gains),
                    "gain_range": [min(gains), max(gains)],
                    "tokens_per_core_s": statistics.median(total / timing["cpu_seconds"] for timing in each),
                    "share_of_peak": statistics.median(shares),
                    "peak_gflop_per_s": statistics.median(peaks) / 1e9,
                    "least_cosine": float(near.min()),
                    "mean_cosine": float(near.mean()),
                })  # fmt: skip
        for worker in workers.values():
            worker.close()
    return rows


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of tokens a second with their range, a panel for each case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(LENGTHS), figsize=(11, 3.5), sharex=True, sharey=True)
    for panel, case in zip(panels, LENGTHS, strict=True):
        mine = [row for row in rows if row["case"] == case][::-1]
        middle = [row["tokens_per_s"] for row in mine]
        spread = [
            [row["tokens_per_s"] - row["slowest"] for row in mine],
            [row["fastest"] - row["tokens_per_s"] for row in mine],
        ]
        panel.barh([row["way"] for row in mine], middle, xerr=spread, color="tab:blue", ecolor="black")
        panel.set(title=f"MiniLM-L6, {case} tokens", xlabel="tokens a second")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def memory(corpus: Path, backend: str) -> dict[str, Any]:
    """Peak PSS in bytes and seconds of a whole run, as its summary tells them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "engine.run", str(corpus), "--quiet", "--backend", backend]
        places = ["--adapter", f"lancedb://{folder}/index", "--run-dir", f"{folder}/run"]
        done = subprocess.run([*command, *places], stderr=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"engine.run exited with {done.returncode}")
        summary = summary_of(Path(folder, "run"))
    return {"backend": backend, "seconds": summary.seconds, **summary.peak_pss_bytes}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--corpus", type=Path, default=Path("examples/corpus"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--png", type=Path, help="a chart (needs matplotlib: the extra bench)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--vectors", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.tokens, args.vectors)
    load = os.getloadavg()[0]
    rows = speeds(args.rounds, args.tokens)
    peak = statistics.median(row["peak_gflop_per_s"] for row in rows)
    print(f"load before: {load:.1f}, after: {os.getloadavg()[0]:.1f}; float32 peak {peak:.0f} GFLOP/s")
    columns = f"{'tokens/s':>9}{'(range)':>15}{'÷ encode':>10}{'a core second':>15}{'peak':>7}{'cosine':>18}"
    print(f"{'case':<18}{'way':<19}{columns}")
    for row in rows:
        span = f"{row['slowest']:.0f}–{row['fastest']:.0f}"
        near = f"{row['least_cosine']:.5f} {row['mean_cosine']:.5f}"
        print(
            f"{row['case']:<18}{row['way']:<19}{row['tokens_per_s']:>9.0f}{span:>15}{row['gain']:>10.2f}"
            f"{row['tokens_per_core_s']:>15.0f}{row['share_of_peak']:>7.0%}{near:>18}"
        )
    # So that no export falls into a run.
    load_image(resolve_image(), "cpu", "float32", "onnx")
    able = [part.name for part in registry.leanest_first() if part.installed() and not part.only_own]
    runs = [memory(args.corpus, backend) for backend in able]
    stages = ("inference", "indexer", "parsers", "supervisor", "total")
    print(f"{'peak PSS in MB':<16}" + "".join(f"{stage:>12}" for stage in stages) + f"{'run in s':>10}")
    for run in runs:
        sizes = "".join(f"{run[stage] / 1e6:>12.0f}" for stage in stages)
        print(f"{run['backend']:<16}{sizes}{run['seconds']:>10.1f}")
    if args.json:
        about = {"load": load, "machine": machine(), "environment": vars(environment())}
        args.json.write_text(json.dumps({"speed": rows, "memory": runs, **about}, indent=2))
    if args.png:
        plot(rows, args.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
