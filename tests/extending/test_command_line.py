"""The package of `docs/extending.md` indexes a corpus by the command line alone."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import adapters
from tests.integration.runs import HANG_S

BEES = "Bees keep the hive warm in winter.\nThey dance to tell where flowers are.\n"


def archive(path: Path, **members: str) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, text in members.items():
            made.writestr(name.replace("_", "."), text)
    return path


def command(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"engine.{module}", *arguments],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"toy://{tmp_path}/index"


def run(tmp_path: Path, url: str, notes: str | None = None) -> dict[str, Any]:
    done = command(
        "run", notes or f"toy://{tmp_path}/notes.zip", "--adapter", url, "--run-dir", f"{tmp_path}/run",
        "--chunker", "toy", "--chunker-option", "size=48", "--backend", "toy", "--text-model", "toy:16",
        "--quiet",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads((tmp_path / "run/summary.json").read_text())
    return {name: count for name, count in summary["files"].items() if count}


def records(url: str) -> list[dict[str, object]]:
    adapter = adapters.connect(url)
    found = sorted(adapter.scan(), key=lambda row: (str(row["source"]), str(row["start"])))
    adapter.close()
    return found


def test_a_corpus_is_indexed_searched_and_kept_in_step_by_parts_of_another_package(
    tmp_path: Path, url: str
) -> None:
    notes = archive(tmp_path / "notes.zip", bees_toy=f"TOY About bees\n{BEES}", plain_txt="A plain text.\n")
    assert run(tmp_path, url) == {"discovered": 2, "indexed": 2}
    first = records(url)
    assert [row["text"] for row in first] == [*BEES.splitlines(), "A plain text."]
    assert [row["source"] for row in first] == [f"toy://{notes}/bees.toy"] * 2 + [f"toy://{notes}/plain.txt"]
    assert {row["media_type"] for row in first} == {"text/x-toy", "text/plain"}

    found = command("search", BEES.splitlines()[1], "--adapter", url, "--json")
    assert json.loads(found.stdout)["text"][0]["id"] == first[1]["id"]

    assert run(tmp_path, url) == {"discovered": 2, "unchanged": 2}
    archive(notes, bees_toy="TOY About bees\nThey swarm in May.\n", plain_txt="A plain text.\n")
    assert run(tmp_path, url) == {"discovered": 2, "indexed": 1, "unchanged": 1}
    assert [row["text"] for row in records(url)] == ["They swarm in May.", "A plain text."]

    checked = command("verify", "--run-dir", f"{tmp_path}/run", "--adapter", url)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_folder_is_indexed_and_searched_by_parts_of_another_package(tmp_path: Path, url: str) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bees.toy").write_text(f"TOY About bees\n{BEES}")
    assert run(tmp_path, url, notes=str(notes)) == {"discovered": 1, "indexed": 1}
    assert [row["text"] for row in records(url)] == BEES.splitlines()
    assert {(row["media_type"], row["title"]) for row in records(url)} == {("text/x-toy", "About bees")}
    found = command("search", BEES.splitlines()[1], "--adapter", url, "--json")
    assert json.loads(found.stdout)["text"][0]["text"] == BEES.splitlines()[1]
    assert run(tmp_path, url, notes=str(notes)) == {"discovered": 1, "unchanged": 1}


def test_a_mistake_with_a_part_of_another_package_is_one_line(tmp_path: Path, url: str) -> None:
    notes = str(tmp_path)
    cases = (
        ([f"toi://{notes}"], "toi://: no source reads that; give paths, or URLs of file://, toy://"),
        ([notes, "--chunker", "toi"], "--chunker toi: unknown; accepted are tokens, toy"),
        ([notes, "--chunker", "toy", "--chunk-overlap", "3"],
         "--chunker toy: has no option 'overlap'; accepted are size"),
        ([notes, "--chunker", "toy", "--chunk-size", "1"], "chunk size 1: must be at least "),
    )  # fmt: skip
    for arguments, message in cases:
        done = command("run", *arguments, "--adapter", url, "--text-model", "toy:16")
        assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (2, True, False), (
            done.stderr
        )
