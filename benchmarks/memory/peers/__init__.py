"""Other systems over the same corpus, for their memory; and where `install` has put them."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.command import BenchError


def embed_anything(cache: Path) -> tuple[str, dict[str, str]]:
    """EmbedAnything's interpreter below `cache`, and the environment in which it finds models and runtime.

    Raises `BenchError` where it isn't installed.
    """
    if not (cache / "installed").exists():
        raise BenchError(f"--cache {cache}: not installed; benchmarks/memory/peers/install {cache}")
    home = cache / "embed-anything"
    env = {**os.environ, "HF_HUB_CACHE": str(cache / "hub"), "HF_HUB_OFFLINE": "1"}
    env.pop("PYTHONPATH", None)
    # Its ONNX backend loads the runtime's library by the path that this variable gives.
    found = sorted(home.glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.*"))
    if found:
        env["ORT_DYLIB_PATH"] = str(found[0])
    return str(home / "bin" / "python"), env
