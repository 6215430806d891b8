"""Does a load survive a server that is killed again and again?

    python -m benchmarks.elasticsearch.kills [--kills 10]

Starts an 8.19 node of its own, loads generated text into it with a rate-limited stand-in model, and kills the
node (SIGKILL) and starts it again, `--kills` times, each time after new records were acknowledged. Then the
index must hold the ids, texts and vectors that an undisturbed run into LanceDB leaves. Caveat: the process is
killed, not the machine; what the disk's cache holds survives that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.integration.runs import Corpus, same_vectors
from tests.integration.test_elasticsearch_faults import Node
from tests.integration.test_run import PROSE
from tests.servers import free_port, node_folder

#: Tokens a second of the stand-in, files, and lines in each: a load of some minutes.
RATE, FILES, LINES = 12_000, 90, 1500

#: Records that must be acknowledged between two kills, and the longest load in seconds.
RECORDS_BETWEEN, DEADLINE_S = 150, 900.0


def acknowledged(corpus: Corpus) -> int:
    """Records that the running load says are written."""
    try:
        return int(json.loads((corpus.run_dir / "status.json").read_text())["chunks"]["indexed"])
    except FileNotFoundError:
        return 0


def main() -> int:
    """The command; exit code 1 where anything is missing, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, node_folder() as folder:
        node = Node(folder, free_port())
        node.start()
        corpus = Corpus(Path(work))
        for number in range(FILES):
            corpus.write(f"{number}.txt", "".join(f"{number}, {line}: {PROSE}" for line in range(LINES)))
        url = f"elasticsearch://127.0.0.1:{node.port}/kills"
        landed, started = 0, time.monotonic()
        try:
            with corpus.started("--adapter", url, text_model=f"stand-in:16@{RATE}") as process:
                known = 0
                while process.poll() is None and time.monotonic() - started < DEADLINE_S:
                    if landed < args.kills and acknowledged(corpus) >= known + RECORDS_BETWEEN:
                        known = acknowledged(corpus)
                        node.kill()
                        landed += 1
                        node.start()
                    time.sleep(0.1)
                code = process.poll()
            seconds = time.monotonic() - started
            records = corpus.records(url)
        finally:
            node.stop()
        plain = Corpus.__new__(Corpus)
        plain.root, plain.files = Path(work, "plain"), corpus.files
        plain.run()
        same = same_vectors(records, plain.records())
    verdict = "equal" if same else "NOT EQUAL"
    print(f"{landed} kills in {seconds:.0f} s, exit code {code}, {len(records)} records, {verdict}")
    return 0 if same and code == 0 and landed == args.kills else 1


if __name__ == "__main__":
    sys.exit(main())
