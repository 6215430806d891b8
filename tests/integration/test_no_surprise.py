"""What a new user meets first is as expected: what is indexed, what is not, and what is told of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.runs import HANG_S, Corpus


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


def test_files_that_are_gone_are_told_until_their_records_are_deleted(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(4):
        corpus.write(f"{number}.txt", f"text number {number}")
    assert "are gone" not in corpus.run().err
    (corpus.files / "0.txt").unlink()
    (corpus.files / "1.txt").unlink()
    told = "2 files are gone from the corpus; --prune deletes their records"
    for result in (corpus.run("--dry-run"), corpus.run(), corpus.run()):
        assert told in (result.err + result.out).splitlines()[-3:]
    assert corpus.run("--dry-run", "--prune").out.splitlines()[-1] == "pruned: the records of 2 files"
    pruned = corpus.run("--prune")
    assert (pruned.files["removed"], "are gone" in pruned.err) == (2, False)
    assert "are gone" not in corpus.run().err


def test_skips_tell_their_type_and_a_run_that_could_index_nothing_says_so_last(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for name in ("a.docx", "b.docx", "c.heic"):
        (corpus.files / name).write_bytes(b"\0\1\2" * 100)
    corpus.write("d.txt", "")
    for result in (corpus.run(), corpus.run()):
        assert result.code == 0
        assert "skipped: 2 docx, 1 heic (no parser), 1 empty; each in " in result.err
        assert "nothing could be indexed: of 4 found, 4 skipped; summary in" in result.err.splitlines()[-1]
    assert "nothing could be indexed" in corpus.run("--quiet").err
    corpus.write("d.txt", "a text")
    assert "nothing" not in corpus.run().err.splitlines()[-1]
