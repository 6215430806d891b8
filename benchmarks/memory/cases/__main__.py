"""Is the engine's memory flat, whatever comes in, and under the limit that was given?

    python -m benchmarks.memory.cases length   the same mixture 1, 10 and 100 times
    python -m benchmarks.memory.cases stall    Elasticsearch stopped for a minute in mid-run
    python -m benchmarks.memory.cases large    single files: 5 GB of text, 100,000 pages, 300 megapixels
    python -m benchmarks.memory.cases tiny     a million files
    python -m benchmarks.memory.cases limit    --max-ram at four values over three corpora
    python -m benchmarks.memory.cases imports  what each library costs when it is imported
    python -m benchmarks.memory.cases mappings what each process of a run maps, for itself alone and shared

Each prints a table in MB of PSS, and with --json and --plot writes the series and draws them. Defaults are
the full sizes; every size is an option. See NAME --help, and benchmarks/README.md for method and caveats.
"""

from __future__ import annotations

import sys

from benchmarks.command import run_case
from benchmarks.memory.bench import Bench, common_options, report
from benchmarks.memory.cases import imports, large, length, limit, mappings, stall, tiny

CASES = {
    "length": length,
    "stall": stall,
    "large": large,
    "tiny": tiny,
    "limit": limit,
    "imports": imports,
    "mappings": mappings,
}


def main() -> int:
    """The command."""
    return run_case(
        "benchmarks.memory.cases",
        __doc__,
        CASES,
        common_options,
        lambda case, args, work: report(args, case.run(args, Bench(args, work))),
    )


if __name__ == "__main__":
    sys.exit(main())
