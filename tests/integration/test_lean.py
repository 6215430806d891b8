"""Each process of a run maps only the libraries that its work needs."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.integration.runs import SOON_S, Corpus, wait_until
from tests.integration.test_run import PROSE

#: A file that every process with the library maps.
TORCH, LANCEDB, PYARROW = "libtorch_cpu.so", "lancedb/_lancedb", "libarrow.so"


def mapped(process: psutil.Process) -> str:
    """Every file that a process maps."""
    return Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


def test_only_inference_imports_torch_and_only_the_indexer_a_database_client(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(6):
        corpus.write(f"{number}.txt", f"{number} " + PROSE * 3000)
    with corpus.started(text_model="sentence-transformers/all-MiniLM-L6-v2") as supervisor:

        def children() -> dict[str, psutil.Process]:
            scores = {"800": "parser", "200": "inference", "100": "indexer"}
            found = {}
            for child in supervisor.children():
                score = Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip()
                if score in scores:
                    found[scores[score]] = child
            return found

        wait_until(lambda: len(children()) == 3)
        wait_until(lambda: TORCH in mapped(children()["inference"]), 2 * SOON_S)
        processes = {**children(), "supervisor": supervisor}
        with_torch = {name for name, process in processes.items() if TORCH in mapped(process)}
        with_client = {
            name
            for name, process in processes.items()
            if LANCEDB in mapped(process) or PYARROW in mapped(process)
        }
    assert with_torch == {"inference"}
    assert with_client == {"indexer"}


def test_a_rerun_without_work_loads_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("note.txt", "a note")
    assert corpus.run().code == 0
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    again = corpus.run()
    assert again.files == {"discovered": 1, "unchanged": 1}
    assert "engine.runtime.supervisor" in again.err
    assert "import time:" in again.err and " torch\n" not in again.err
    peaks = again.summary["peak_pss_bytes"]
    assert peaks["parsers"] == peaks["inference"] == 0 < peaks["supervisor"]
