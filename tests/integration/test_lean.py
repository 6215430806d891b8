"""Each process of a run maps only the libraries that its work needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.runs import Corpus, wait_until
from tests.integration.test_run import PROSE, big_corpus, wait_for_records

#: A file that every process with the library maps.
TORCH, ONNX, LANCEDB, PYARROW = "libtorch_cpu.so", "onnxruntime/capi", "lancedb/_lancedb", "libarrow.so"


def mapped(process: psutil.Process) -> str:
    """Every file that a process maps."""
    return Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_only_inference_imports_the_backend_and_only_the_indexer_a_database_client(
    tmp_path: Path, backend: str
) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("0.txt", "a note that is embedded while the rest is parsed")
    for number in range(1, 6):
        corpus.write(f"{number}.txt", f"{number} " + PROSE * 3000)
    with corpus.started(
        "--backend", backend, text_model="sentence-transformers/all-MiniLM-L6-v2"
    ) as supervisor:

        def children() -> dict[str, psutil.Process]:
            scores = {"800": "parser", "200": "inference", "100": "indexer"}
            found = {}
            for child in supervisor.children():
                score = Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip()
                if score in scores:
                    found[scores[score]] = child
            return found

        wait_until(lambda: len(children()) == 3)
        # What a model needs in order to embed is imported when the first vectors arrive, none of it later.
        wait_for_records(corpus, 1)
        processes = {**children(), "supervisor": supervisor}
        with_library = {
            library: {name for name, process in processes.items() if library in mapped(process)}
            for library in (TORCH, ONNX)
        }
        with_client = {
            name
            for name, process in processes.items()
            if LANCEDB in mapped(process) or PYARROW in mapped(process)
        }
    assert with_library == {
        TORCH: {"inference"} if backend == "torch" else set(),
        ONNX: {"inference"} if backend == "onnx" else set(),
    }
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


#: Runs `engine.status`, then prints the libraries among what it imported.
STATUS = """
import sys
from engine.status import main
code = main(sys.argv[1:])
print({"torch", "lancedb", "pyarrow", "elasticsearch", "tokenizers"} & set(sys.modules), file=sys.stderr)
sys.exit(code)
"""


def test_the_status_of_a_run_at_work_needs_no_library_and_leaves_no_file(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@10000") as process:
        wait_for_records(corpus, 100)
        before = {path.name for path in corpus.run_dir.iterdir()}
        command = [sys.executable, "-c", STATUS, "--run-dir", str(corpus.run_dir), "--json"]
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
        after = {path.name for path in corpus.run_dir.iterdir()}
        assert process.poll() is None
    assert asked.stderr == "set()\n"
    # The run itself writes its status and its series meanwhile.
    assert after - before <= {"status.json.new", "series.json", "series.json.new"}
    told = json.loads(asked.stdout)
    assert told["running"] is True
    (run,) = told["runs"]
    assert run["owner"]["pid"] == process.pid
    assert run["status"]["chunks"]["indexed"] >= 100
    assert told["files"]["pending"] >= 1
    assert run["summary"] is None
