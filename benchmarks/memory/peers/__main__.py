"""The same corpus by EmbedAnything (both backends), by a plain script, and by us: whose memory is flat?

    benchmarks/memory/peers/install FOLDER
    python -m benchmarks.memory.peers --cache FOLDER [--model minilm|tiny] [--megabytes MB] [--copies 1 10]

Texts and PDFs go into one real Elasticsearch, one system after the other, each measured by the same sampler;
the server's memory is not counted. The tiny model has MiniLM's vectors and tokenizer and next to no
arithmetic, so that a corpus large enough to show who piles up what passes through every system in minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.command import BenchError
from benchmarks.memory import figures
from benchmarks.memory.bench import Bench, Outcome, common_options, report
from benchmarks.memory.peers import embed_anything
from benchmarks.memory.sampler import Measurement, measure
from benchmarks.memory.server import Server, elasticsearch
from benchmarks.memory.stages import Stages

SYSTEMS = ("ours", "plain", "ea-candle", "ea-onnx")

#: What `ea-candle` and the others are, in the table.
TITLES = {
    "ours": "this engine",
    "plain": "sentence-transformers + helpers.bulk",
    "ea-candle": "EmbedAnything 0.7.1, candle",
    "ea-onnx": "EmbedAnything 0.7.1, ONNX",
}

HERE = Path(__file__).resolve().parent


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common_options(parser)
    add = parser.add_argument
    add("--cache", type=Path, required=True, metavar="FOLDER", help="where `install` has put it all")
    add("--model", choices=("minilm", "tiny"), default="minilm", help="default minilm")
    add("--megabytes", type=float, default=0.05, metavar="MB", help="of one copy (default 0.05)")
    add("--copies", type=int, nargs="+", default=[1, 10], metavar="N", help="default 1 10")
    add("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="NAME",
        help=f"of {', '.join(SYSTEMS)} (default all)")  # fmt: skip
    add("--ours", nargs=argparse.REMAINDER, default=[], metavar="OPTION", help="for engine.run; comes last")
    args = parser.parse_args()
    try:
        figures.check_plot(args.plot)
        embed_anything(args.cache)  # before a server is started
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary, elasticsearch() as server:
            report(args, compare(args, Bench(args, (args.work or Path(temporary)).absolute()), server))
    except (BenchError, figures.PlotError) as error:
        print(f"peers: {error}", file=sys.stderr)
        return 1
    return 0


def compare(args: argparse.Namespace, bench: Bench, server: Server) -> Outcome:
    """Every system over every size; the ratio of the last size's peak to the first's for each."""
    outcome = Outcome()
    first: dict[str, int] = {}
    for copies in args.copies:
        name = f"texts-{args.megabytes:g}x{copies}"
        corpus = bench.corpus("documents", name, args.megabytes, copies)
        for system in args.systems:
            title = f"{TITLES[system]}, x {copies}"
            measured, records = _one(system, args, bench, server, corpus, title)
            peak = measured.peaks["total"]
            outcome.panels[title] = measured
            row = {
                "system": TITLES[system],
                "corpus": f"x {copies}",
                "records": records,
                "peak": figures.megabytes(peak),
                "/ first": f"{peak / first.setdefault(system, peak):.2f}",
                "exit": measured.exit_code,
                "s": f"{measured.seconds:.1f}",
            }
            outcome.rows.append(row)
            print(figures.table([row]), file=sys.stderr, flush=True)
    return outcome


def _one(
    system: str, args: argparse.Namespace, bench: Bench, server: Server, corpus: Path, title: str
) -> tuple[Measurement, str]:
    """One system over one corpus; how many records it says it has written."""
    index = f"{system}-{corpus.name.lower().replace('.', '-')}"
    cache = args.cache.absolute()
    if system == "ours":
        options = ["--text-model", str(cache / args.model), "--no-images", *args.ours]
        run = bench.run(title, [corpus], *options, adapter=server.adapter(index))
        server.delete(f"{index}-*")
        return run.measured, f"{run.summary.totals.records:,}"
    arguments = [str(corpus), server.url, index]
    python, env = embed_anything(cache)
    if system == "plain":
        command = [sys.executable, str(HERE / "plain.py"), str(cache / args.model), *arguments]
    else:
        backend = system.removeprefix("ea-")
        command = [python, str(HERE / "embed_anything_load.py"), backend, args.model, *arguments]
    log = bench.work / f"{index}.log"
    measured = measure(command, Stages(((system, re.compile("")),)), bench.interval, env=env, stderr=log)
    server.delete(index)
    told = log.read_text(encoding="utf-8", errors="replace")
    if measured.exit_code:
        raise BenchError(f"{title}: exit code {measured.exit_code}: {told[-600:]}")
    found = re.search(r"^records (\d+)$", told, re.MULTILINE)
    return measured, f"{int(found[1]):,}" if found else "?"


if __name__ == "__main__":
    sys.exit(main())
