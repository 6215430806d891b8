"""An index of 8-bit integers and one of float32 never mix, and each is searched by its own model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def test_an_index_in_int8_is_searched_in_int8_and_refuses_float32(tmp_path: Path) -> None:
    corpus, url = tmp_path / "corpus", f"lancedb://{tmp_path}/index"
    corpus.mkdir()
    (corpus / "bees.txt").write_text("Bees choose a new home by dancing for the best hollow tree.")
    (corpus / "leeks.txt").write_text("Sow leeks in March, and plant them out in June.")
    command = ("engine.run", str(corpus), "--adapter", url, "--quiet", "--device", "cpu")
    made = run(*command, "--run-dir", str(tmp_path / "int8"), "--backend", "onnx", "--dtype", "int8")
    # Quiet also of the export, and of what runs the model.
    assert (made.returncode, made.stderr) == (0, "")
    found = run("engine.search", "when should I sow leeks", "--adapter", url, "-k", "1", "--kind", "text")
    assert "leeks.txt" in found.stdout, found.stderr
    mixed = run(*command, "--run-dir", str(tmp_path / "float32"), "--backend", "onnx")
    assert mixed.returncode == 2
    assert f"the index was made with --text-model {MODEL}+int8 (" in mixed.stderr
    assert f"this run asks for {MODEL} (" in mixed.stderr
    other = run("engine.search", "leeks", "--adapter", url, "--kind", "text", "--backend", "torch")
    assert other.returncode == 2
    assert "--backend torch: it computes in float32, bfloat16 or float16, not in int8" in other.stderr
