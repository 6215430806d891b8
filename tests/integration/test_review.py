"""What a sceptical reader of the runtime tried, and found wanting."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.integration.runs import HANG_S, Corpus

PROSE = "The engine reads, embeds and writes. "


# It ended with exit code 1 at the first line that it printed; the summary said 75.
def test_a_run_whose_terminal_is_gone_goes_on_to_its_end(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", PROSE)
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(corpus.command(), stderr=writer)
    os.close(writer)
    assert process.wait(HANG_S) == 0
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["files"]["indexed"]) == ("complete", 1)
