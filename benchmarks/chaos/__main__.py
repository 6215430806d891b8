"""Is anything lost, doubled, changed or stuck when any process may die, freeze or be ended at any moment?

    python -m benchmarks.chaos [--adapter lancedb|elasticsearch] [--kills N] [--seed S] [--json FILE]

Makes a corpus that mixes healthy and hostile files, loads it once undisturbed into a LanceDB, and then, with
a rate-limited stand-in, into fresh indexes under a storm: SIGKILL, SIGSTOP with a later SIGCONT, and SIGTERM,
of the supervisor, parsers, the inference process, the indexer, and of a real Elasticsearch 8.19 where that is
the adapter. Every second load runs on two devices, of which a strike hits one. The same command runs again
whenever it ends with any code but 0 or 3. When a load is done, its ids, texts, vectors, file states, failures
and skipped files must equal those of the undisturbed run, and the next load begins, until `--kills` SIGKILLs
have landed.

A seed fixes the decisions (whom, by what, after how long), not the moments at which the processes are caught:
the same seed gives the same sequence of strikes, and not the same run. Exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.chaos.database import database
from benchmarks.chaos.storm import Settings, Storm
from engine.runtime.report.summary import environment


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--adapter", choices=("lancedb", "elasticsearch"), default="lancedb")
    add("--kills", type=int, default=100, metavar="N", help="SIGKILLs that must land (default 100)")
    add("--seed", type=int, default=1, metavar="S", help="of the decisions (default 1)")
    add("--megabytes", type=float, default=12.0, metavar="MB", help="text of the corpus (default 12)")
    add("--load-seconds", type=float, default=90.0, metavar="S",
        help="how long a load would take undisturbed; sets the stand-in's rate (default 90)")  # fmt: skip
    add("--workers", type=int, default=2, metavar="N", help="parsers (default 2)")
    add("--devices", type=int, default=2, metavar="N",
        help="devices of every second load; the others have one (default 2)")  # fmt: skip
    add("--long-pause", type=float, default=45.0, metavar="S",
        help="seconds of a long stop, beyond the engine's patience; 0 for none (default 45)")  # fmt: skip
    add("--hang-after", type=float, default=120.0, metavar="S",
        help="seconds without progress after which a run hangs (default 120)")  # fmt: skip
    add(
        "--folder",
        type=Path,
        metavar="DIR",
        help="work there and leave it; its story.txt grows as the storm goes on (default: a temporary one)",
    )
    add("--json", type=Path, metavar="FILE", help="write figures, story and environment there")
    args = parser.parse_args()
    settings = Settings(
        args.seed, args.kills, args.megabytes, args.load_seconds, args.workers,
        long_pause=args.long_pause or None, hang_after=args.hang_after, devices=args.devices,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with database(args.adapter, folder) as storming:
            figures = Storm(settings, storming, folder).run()
    print("\n".join(figures.table()))
    if not figures.faultless:
        print("\nThe story:", *figures.story, sep="\n", file=sys.stderr)
    if args.json:
        content = {**figures.as_dict(), "settings": vars(args) | {"json": None, "folder": None}}
        args.json.write_text(
            json.dumps({**content, "environment": vars(environment())}, indent=1), encoding="utf-8"
        )
    return 0 if figures.faultless else 1


if __name__ == "__main__":
    sys.exit(main())
