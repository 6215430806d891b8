"""A run has as many parsers as keep its model busy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.integration.runs import HANG_S, Corpus

#: Seconds for each file, and the files: 8 s for one parser.
SLOW_S, FILES = 0.12, 70


def parsers_of(corpus: Corpus, text_model: str) -> int:
    """How many parsers a run over slow files has started, of four at most."""
    command = corpus.command("--workers", "4", text_model=text_model)
    command[1:3] = ["-m", "tests.integration.slow_parsing", str(SLOW_S)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stderr
    log = (corpus.run_dir / "run.log").read_text(encoding="utf-8")
    return len(set(re.findall(r"parser-\d+ started", log)))


def test_a_fast_model_gets_more_parsers_than_a_slow_one(tmp_path: Path) -> None:
    found = {}
    # Files of some 200 tokens, so that one parser brings 1,650 a second.
    for name, text_model in {"fast": "stand-in:16@500000", "slow": "stand-in:16@1200"}.items():
        (tmp_path / name).mkdir()
        corpus = Corpus(tmp_path / name)
        for number in range(FILES):
            corpus.write(f"{number}.txt", " ".join(f"word{number} and{i}" for i in range(100)))
        found[name] = parsers_of(corpus, text_model)
    assert found["slow"] == 1
    assert 2 <= found["fast"] <= 4
