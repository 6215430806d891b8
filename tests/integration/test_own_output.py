"""A run in a folder of documents never indexes what runs write there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.runs import HANG_S


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine.run", *arguments, "--text-model", "stand-in:16"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, check=False)


def files(folder: Path) -> dict[str, int]:
    (summary,) = folder.glob("runs/*/summary.json")
    return {name: count for name, count in json.loads(summary.read_text())["files"].items() if count}


def test_a_run_in_its_own_folder_finds_the_same_files_each_time(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.md").write_text(f"text number {number}")
    assert run(tmp_path, ".").returncode == 0
    assert files(tmp_path) == {"discovered": 5, "indexed": 3, "skipped": 2}
    for options in ((), ("--hidden",), ("--hidden", "--memory-trace", "trace.jsonl")):
        assert run(tmp_path, ".", *options).returncode == 0
        counts = files(tmp_path)
        assert counts.pop("unchanged") == 3
        assert set(counts) == {"discovered", "skipped"}
    (skipped,) = tmp_path.glob("runs/*/skipped.jsonl")
    told = {tuple(json.loads(line).values()) for line in skipped.read_text().splitlines()}
    names = (str(skipped.parent), str(tmp_path / "vectors.lancedb"), str(tmp_path / "trace.jsonl"))
    assert told == {(name, "engine-output") for name in names}
