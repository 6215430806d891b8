"""Each process imports at its start no library that it may never use; the list says what each may import."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Libraries that take more than some hundredths of a second, or megabytes, to import.
LARGE = {
    "PIL", "elasticsearch", "filetype", "ftfy", "fsspec", "huggingface_hub", "lancedb", "lxml", "numpy",
    "onnx", "onnxruntime", "open_clip", "openvino", "pandas", "pyarrow", "pydantic", "pypdfium2",
    "resiliparse", "safetensors", "scipy", "sentence_transformers", "tokenizers", "torch", "torchvision",
    "trafilatura", "transformers",
}  # fmt: skip

#: Those that each process may have imported before its first message, its first file or its first query.
MAY = {
    "engine.run, engine.cli.options, engine.runtime.supervisor": {"numpy", "tokenizers"},
    "engine.runtime.workers.parser": {"numpy", "tokenizers"},
    "engine.runtime.workers.inference": {"numpy", "tokenizers"},
    "engine.runtime.workers.indexer": {"numpy"},
    "engine.search": {"numpy", "tokenizers"},
    "engine.status": {"numpy"},
}


@pytest.mark.parametrize("modules", MAY, ids=lambda modules: str(modules).partition(",")[0])
def test_a_process_imports_no_more_than_it_may(modules: str) -> None:
    code = f"import sys, {modules}; print(*sorted({LARGE!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= MAY[modules]
