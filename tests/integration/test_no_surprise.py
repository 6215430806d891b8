"""What a new user meets first is as expected: what is indexed, what is not, and what is told of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.integration.runs import HANG_S, Corpus, wait_until


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


def test_other_content_with_the_same_size_and_time_is_embedded(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    path = corpus.write("a.txt", "one text")
    os.utime(path, ns=(1, 1))
    corpus.write("b.txt", "a text that stays")
    assert corpus.run().files == {"discovered": 2, "indexed": 2}
    path.write_text("two text")
    os.utime(path, ns=(1, 1))
    assert corpus.run().files == {"discovered": 2, "indexed": 1, "unchanged": 1}
    assert sorted(str(each["text"]) for each in corpus.records().values()) == [
        "a text that stays",
        "two text",
    ]
    (corpus.files / "b.txt").chmod(0o600)
    assert corpus.run().files == {"discovered": 2, "unchanged": 2}


def test_a_ledger_of_an_engine_that_knew_only_times_makes_nothing_anew(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(3):
        corpus.write(f"{number}.txt", f"text number {number}")
    corpus.run()
    with closing(sqlite3.connect(corpus.run_dir / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE items SET version = CAST(mtime_ns AS TEXT)")
    again = corpus.run()
    assert (again.files, again.summary["bytes_read"]) == ({"discovered": 3, "unchanged": 3}, 0)
    with closing(sqlite3.connect(corpus.run_dir / "ledger.sqlite")) as ledger:
        versions = [version for (version,) in ledger.execute("SELECT version FROM items")]
    assert all(version.count(";") == 2 for version in versions)


def test_a_closed_standard_error_is_as_good_as_an_open_one(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", "a text")
    (corpus.files / "b.pdf").write_bytes(b"%PDF-1.4 and nothing more")
    (corpus.files / "c.png").write_bytes(b"")
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *corpus.command()]
    assert subprocess.run(command, timeout=HANG_S, check=False).returncode == 3
    result = corpus.run("--run-dir", str(tmp_path / "other"), url=f"lancedb://{tmp_path}/other-db")
    assert result.code == 3
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("run", "other")]
    assert summaries[0]["files"] == summaries[1]["files"] == {
        "discovered": 3, "indexed": 1, "partial": 0, "unchanged": 0, "skipped": 1, "failed": 1, "removed": 0,
        "pending": 0,
    }  # fmt: skip
    refused = ["sh", "-c", 'exec "$@" 2>&-', "sh", *corpus.command("--nonsense")]
    assert subprocess.run(refused, timeout=HANG_S, check=False).returncode == 2


# How a run ends


def begun(corpus: Corpus) -> None:
    """Enough to write for some seconds at the rate that the tests below ask for."""
    for number in range(40):
        corpus.write(f"{number}.txt", f"{number} words " * 2000)


SLOW_MODEL = "stand-in:16@20000"


def written(corpus: Corpus) -> bool:
    return any((corpus.root / "db/chunks.lance/data").glob("*"))


def test_a_table_that_is_deleted_during_a_run_ends_it_with_what_repairs_it(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    begun(corpus)
    with corpus.started(text_model=SLOW_MODEL) as process:
        wait_until(lambda: written(corpus))
        shutil.rmtree(tmp_path / "db")
        assert process.wait(HANG_S) == 1
        last = process.stderr.read().splitlines()[-1]
    assert "the index was deleted or replaced during the run; repair it with: python -m engine.verify" in last
    assert "same command" not in last
    # What it promises is true.
    repair = last.partition("repair it with: ")[2].partition(" (or")[0].split()
    command = [sys.executable, *repair[1:]]
    done = subprocess.run(command, timeout=HANG_S, check=False, capture_output=True, text=True)
    if done.returncode:
        # The indexer wrote on while the folder was being deleted: a table that lacks files.
        assert "is missing; where it is lost, delete the directory and run" in done.stderr
        shutil.rmtree(tmp_path / "db")
        assert subprocess.run(command, timeout=HANG_S, check=False).returncode == 0
    assert corpus.run(text_model="stand-in:16@2000000").code in (0, 2)


def test_a_run_directory_that_is_deleted_during_a_run_ends_it_with_what_is_left(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    begun(corpus)
    with corpus.started(text_model=SLOW_MODEL) as process:
        wait_until(lambda: written(corpus))
        shutil.rmtree(tmp_path / "run")
        assert process.wait(HANG_S) == 1
        last = process.stderr.read().splitlines()[-1]
    assert "run was deleted during the run, and the ledger with it" in last
    assert "same command" not in last


def test_a_working_directory_that_is_gone_is_named_before_anything_is_done(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", "a text")
    (tmp_path / "gone").mkdir()
    script = f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *corpus.command()],
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2, "engine.run: the working directory is gone; change into one that exists\n"
    )  # fmt: skip


def test_no_rate_is_above_what_was_computed_or_contradicts_another(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    text = "the same words in every file " * 4000
    for number in range(6):
        corpus.write(f"{number}.txt", text)
    result = corpus.run(text_model="stand-in:16@20000")
    speed, summary = result.summary["speed_of_light"], result.summary
    computed = summary["tokens"] / 6
    assert summary["throughput"]["tokens_per_s"] <= computed / summary["seconds"] * 1.001
    assert speed["end_to_end"] * speed["window_s"] <= computed * 1.01
    assert speed["end_to_end"] <= speed["bound"] <= speed["forward_only"]
    assert speed["ratio"] <= 1
    assert result.err.count("tokens/s") == 1
    series = json.loads((corpus.run_dir / "series.json").read_text())
    assert series["points"][-1][series["columns"].index("tokens")] <= computed  # what the chart is made of
