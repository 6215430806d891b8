"""How fast, and in how much memory, does each backend run the text model?

    python -m benchmarks.speed.backends [--rounds 5] [--tokens 20000] [--corpus FOLDER] [--json FILE]

Tokens a second of all-MiniLM-L6-v2 in memory, without files and database: by `SentenceTransformer.encode`
with its defaults, and by the engine's torch and ONNX Runtime backends, each in a process of its own. A round
runs each backend once on the same inputs, one after another; medians of the rounds, and for each round how
much faster than `encode` it was. Lengths are 256 tokens, or drawn evenly from 16 to 256. Then the peak PSS of
the processes of a whole run over FOLDER (default `examples/corpus`) by each backend, pictures included.
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

from engine.models.load import load_image, load_text
from engine.models.resolve import resolve_image, resolve_text
from engine.runtime.report import environment

#: What is compared, the reference first.
BACKENDS = ("encode", "torch", "onnx")

#: Least and most tokens of an input, special tokens included.
LENGTHS = {"uniform 256": (256, 256), "mixed 16 to 256": (16, 256)}


class Timing(TypedDict):
    """One pass over a case: seconds of the clock, and of all cores together."""

    seconds: float
    cpu_seconds: float


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


def runner(backend: str) -> Callable[[Sequence[str]], Callable[[], object]]:
    """Loads the backend; what comes back prepares inputs, and what that gives embeds them."""
    if backend == "encode":
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(resolve_text().folder), device="cpu")
        return lambda inputs: lambda: model.encode(list(inputs), show_progress_bar=False)
    embedder = load_text(resolve_text(), "cpu", "float32", backend)
    if embedder.notes:
        raise RuntimeError(embedder.notes[0])

    def prepare(inputs: Sequence[str]) -> Callable[[], object]:
        ids = token_ids(inputs)
        return lambda: embedder.embed_ids(ids)

    return prepare


def work(backend: str, tokens: int) -> int:
    """One process: for each line that names a case, a line with its timing."""
    prepare = runner(backend)
    cases = {case: prepare(texts(case, tokens)) for case in LENGTHS}
    for warm in cases.values():
        warm()
    print("ready", flush=True)
    for line in sys.stdin:
        started, cpu = time.perf_counter(), time.process_time()
        cases[line.strip()]()
        timing = Timing(seconds=time.perf_counter() - started, cpu_seconds=time.process_time() - cpu)
        print(json.dumps(timing), flush=True)
    return 0


class Worker:
    """A process with one backend loaded."""

    def __init__(self, backend: str, tokens: int) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.speed.backends",
            "--worker",
            backend,
            "--tokens",
            str(tokens),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def run(self, case: str) -> Timing:
        """Embed the case once."""
        _open(self._process.stdin).write(case + "\n")
        _open(self._process.stdin).flush()
        timing: Timing = json.loads(self._answer())
        return timing

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


def speeds(rounds: int, tokens: int) -> list[dict[str, object]]:
    """A row for each case and backend."""
    workers = {backend: Worker(backend, tokens) for backend in BACKENDS}
    rows: list[dict[str, object]] = []
    for case in LENGTHS:
        total = sum(len(ids) for ids in token_ids(texts(case, tokens)))
        timings = [{name: worker.run(case) for name, worker in workers.items()} for _ in range(rounds)]
        for backend in BACKENDS:
            rates = [total / timing[backend]["seconds"] for timing in timings]
            gains = [timing["encode"]["seconds"] / timing[backend]["seconds"] for timing in timings]
            rows.append(
                {
                    "case": case,
                    "backend": backend,
                    "tokens_per_s": statistics.median(rates),
                    "slowest": min(rates),
                    "fastest": max(rates),
                    "gain": statistics.median(gains),
                    "tokens_per_core_s": statistics.median(
                        total / timing[backend]["cpu_seconds"] for timing in timings
                    ),
                }
            )
    for worker in workers.values():
        worker.close()
    return rows


def memory(corpus: Path, backend: str) -> dict[str, object]:
    """Peak PSS in bytes and seconds of a whole run, as its summary tells them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "engine.run", str(corpus), "--quiet", "--backend", backend]
        places = ["--adapter", f"lancedb://{folder}/index", "--run-dir", f"{folder}/run"]
        done = subprocess.run([*command, *places], stderr=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"engine.run exited with {done.returncode}")
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    return {"backend": backend, "seconds": summary["seconds"], **summary["peak_pss_bytes"]}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--corpus", type=Path, default=Path("examples/corpus"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", choices=BACKENDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.tokens)
    load = os.getloadavg()[0]
    rows = speeds(args.rounds, args.tokens)
    print(f"load before: {load:.1f}, after: {os.getloadavg()[0]:.1f}")
    print(f"{'case':<18}{'backend':<9}{'tokens/s':>9}{'(range)':>15}{'÷ encode':>10}{'a core second':>15}")
    for row in rows:
        span = f"{row['slowest']:.0f}–{row['fastest']:.0f}"
        print(
            f"{row['case']:<18}{row['backend']:<9}{row['tokens_per_s']:>9.0f}{span:>15}{row['gain']:>10.2f}"
            f"{row['tokens_per_core_s']:>15.0f}"
        )
    # So that no export falls into a run.
    load_image(resolve_image(), "cpu", "float32", "onnx")
    runs = [memory(args.corpus, backend) for backend in ("torch", "onnx")]
    stages = ("inference", "indexer", "parsers", "supervisor", "total")
    print(f"{'peak PSS in MB':<16}" + "".join(f"{stage:>12}" for stage in stages) + f"{'run in s':>10}")
    for run in runs:
        sizes = "".join(f"{run[stage] / 1e6:>12.0f}" for stage in stages)  # type: ignore[operator]
        print(f"{run['backend']:<16}{sizes}{run['seconds']:>10.1f}")
    if args.json:
        content = {"speed": rows, "memory": runs, "load": load, "environment": environment()}
        args.json.write_text(json.dumps(content, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
