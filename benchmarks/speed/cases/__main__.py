"""How fast is what feeds the model, and what takes its vectors away?

    python -m benchmarks.speed.cases channels  ready chunks through channels, loops, indexer and ledger
    python -m benchmarks.speed.cases device    files into LanceDB with a fast device, and the cores it takes
    python -m benchmarks.speed.cases parse     text, HTML and Markdown through the parser stage, one core
    python -m benchmarks.speed.cases pdf       manuals to text, against pdfplumber on the same pages
    python -m benchmarks.speed.cases pictures  photographs to the model's size, against open_clip
    python -m benchmarks.speed.cases records   a million records into LanceDB, also with crashes and changes
    python -m benchmarks.speed.cases nearest   LanceDB's vector index against exact search: recall, latency
    python -m benchmarks.speed.cases ends      texts to LanceDB, against encode in memory, and the bound
    python -m benchmarks.speed.cases photographs  photographs to LanceDB, against open_clip, and the bound
    python -m benchmarks.speed.cases peers     texts to LanceDB, against EmbedAnything and LangChain
    python -m benchmarks.speed.cases gpu       models on a GPU alone, whole runs, and the cores that feed them
    python -m benchmarks.speed.cases lanes     two and four devices of a fixed rate against one
    python -m benchmarks.speed.cases profile   what each process spends its time on, at full load

Each prints a table and its figures beside their goals. See NAME --help, and benchmarks/README.md for method
and caveats.
"""

from __future__ import annotations

import sys

from benchmarks.command import run_case
from benchmarks.speed.bench import common_options, report
from benchmarks.speed.cases import (
    channels,
    device,
    ends,
    gpu,
    lanes,
    nearest,
    parse,
    pdf,
    peers,
    photographs,
    pictures,
    profile,
    records,
)

CASES = {
    "channels": channels,
    "device": device,
    "ends": ends,
    "gpu": gpu,
    "lanes": lanes,
    "nearest": nearest,
    "parse": parse,
    "pdf": pdf,
    "peers": peers,
    "photographs": photographs,
    "pictures": pictures,
    "profile": profile,
    "records": records,
}


def main() -> int:
    """The command."""
    return run_case(
        "benchmarks.speed.cases",
        __doc__,
        CASES,
        common_options,
        lambda case, args, work: report(args, case.run(args, work)),
    )


if __name__ == "__main__":
    sys.exit(main())
