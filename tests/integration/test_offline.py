"""Every command where there is no network at all: in a network namespace without any route."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.models.files.fetch import fetch
from engine.models.resolve import DEFAULT_TEXT_MODEL

#: Seconds after which a command counts as hung.
HANG_S = 240.0


def without_network(command: Sequence[str], cache: Path) -> subprocess.CompletedProcess[str]:
    """Run a module of the engine where no packet can be sent; caches are empty and its own."""
    home = {"HOME": str(cache), "XDG_CACHE_HOME": str(cache), "HF_HOME": str(cache / "hf")}
    return subprocess.run(
        ["unshare", "--net", sys.executable, "-m", *command],
        capture_output=True, text=True, timeout=HANG_S, check=False, env={**os.environ, **home},
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a namespace needs root")
def test_every_command_works_from_fetched_folders_without_a_network(tmp_path: Path) -> None:
    probe = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    refused = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert "Network is unreachable" in refused.stderr
    text, _ = fetch(DEFAULT_TEXT_MODEL, tmp_path / "models")
    image, _ = fetch("demo-clip", tmp_path / "models")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "sea.txt").write_text("The tide turns twice a day.")
    shutil.copy(Path("examples/corpus/pictures/png/four-red-diamonds-on-green.png"), corpus)
    url, run_dir = f"lancedb://{tmp_path}/db", str(tmp_path / "run")
    models = ["--text-model", str(text), "--image-model", str(image)]
    task = ["--run-dir", run_dir, "--fleet", "--shard", "0/1"]
    commands: list[list[str]] = [
        ["engine.models", "check", str(text), str(image)],
        ["engine.run", str(corpus), "--adapter", url, *models, *task],
        ["engine.merge", "--run-dir", run_dir, "--adapter", url],
        ["engine.status", "--run-dir", run_dir],
        ["engine.verify", "--run-dir", run_dir, "--adapter", url],
        ["engine.search", "when does the sea rise?", "--adapter", url, "--json"],
    ]
    for command in commands:
        done = without_network(command, tmp_path / "cache")
        assert done.returncode == 0, (command, done.stderr, done.stdout)
        assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert [hit["source"] for hit in found["text"]] == [str(corpus / "sea.txt")]
    assert [hit["source"] for hit in found["image"]] == [str(corpus / "four-red-diamonds-on-green.png")]
