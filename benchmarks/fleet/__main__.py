"""python -m benchmarks.fleet            a simulated fleet: makespan, and work done twice
python -m benchmarks.fleet estimate   what engine.plan foretells of a corpus, against a real run
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.command import BenchError
from benchmarks.fleet import estimate, simulate
from benchmarks.memory.figures import PlotError


def main() -> int:
    """The command; returns its exit code."""
    estimating = sys.argv[1:2] == ["estimate"]
    case = estimate if estimating else simulate
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet" + (" estimate" if estimating else ""),
        description=f"{case.__doc__}\n\n{'' if estimating else __doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    case.add_options(parser)
    try:
        case.run(parser.parse_args(sys.argv[2:] if estimating else None))
    except (BenchError, PlotError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
