"""How fast is what feeds the model, and what takes its vectors away?

    python -m benchmarks.speed.cases channels  ready chunks through channels, loops, indexer and ledger
    python -m benchmarks.speed.cases parse     text, HTML and Markdown through the parser stage, one core
    python -m benchmarks.speed.cases pdf       manuals to text, against pdfplumber on the same pages
    python -m benchmarks.speed.cases pictures  photographs to the model's size, against open_clip

Each prints a table and its figures beside their goals. See NAME --help, and benchmarks/README.md for method
and caveats.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import figures
from benchmarks.speed.bench import BenchError, common_options, report
from benchmarks.speed.cases import channels, parse, pdf, pictures

CASES = {"channels": channels, "parse": parse, "pdf": pdf, "pictures": pictures}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.cases",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    names = parser.add_subparsers(dest="case", required=True, metavar="NAME")
    for name, module in CASES.items():
        one = names.add_parser(
            name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        common_options(one)
        module.add_options(one)
    args = parser.parse_args()
    try:
        figures.check_plot(args.plot)
        with tempfile.TemporaryDirectory(dir="/var/tmp") as temporary:
            work = (args.work or Path(temporary)).absolute()
            work.mkdir(parents=True, exist_ok=True)
            report(args, CASES[args.case].run(args, work))
    except (BenchError, figures.PlotError) as error:
        print(f"{args.case}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
