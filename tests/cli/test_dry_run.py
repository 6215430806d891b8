"""A dry run tells what a run would do by the ledger and the files' times, and touches nothing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.cli.dry_run import dry_run
from engine.cli.options import parse
from engine.config import Config
from engine.errors import UsageError
from engine.runtime.generation import Generation
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from tests.items import item


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, size in (("a.txt", 1), ("b.txt", 20), ("c.txt", 300), ("d.txt", 4000), (".hidden", 9)):
        (folder / name).write_text("x" * size)
    return folder


def config_of(corpus: Path, run_dir: Path, *more: str) -> Config:
    return parse([str(corpus), "--run-dir", str(run_dir), "--dry-run", *more])


def told(config: Config, capsys: pytest.CaptureFixture[str]) -> str:
    assert dry_run(config) == 0
    return capsys.readouterr().out


def remember(run_dir: Path, corpus: Path, **states: str) -> None:
    """A ledger in which each file, as it is now, has come to this state."""
    run_dir.mkdir(parents=True)
    ledger = Ledger(run_dir)
    for name, state in states.items():
        path = corpus / f"{name}.txt"
        status = path.stat()
        row = ledger.items.add(item(str(path), status.st_size, status.st_mtime_ns), 1)
        ledger.items.finish(row.id, state, "empty" if state == "skipped" else None)  # type: ignore[arg-type]
        if state == "indexed":
            ledger.segments.acknowledge([Acknowledged(row.id, 0, 0, -1, None, "", bytes(16), True)])
    ledger.close()


def test_without_a_ledger_every_file_is_new_and_none_is_made(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(config_of(corpus, tmp_path / "run"), capsys)
    assert text == ("dry run: 5 paths found: 4 new, 1 skipped; 4,321 bytes to read\nskipped: 1 hidden\n")
    assert not (tmp_path / "run").exists()


def test_files_are_told_by_what_the_ledger_knows_of_them(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(tmp_path / "run", corpus, a="indexed", b="indexed", c="failed")
    os.utime(corpus / "b.txt", (1, 1))
    before = (tmp_path / "run" / "ledger.sqlite").read_bytes()
    text = told(config_of(corpus, tmp_path / "run"), capsys)
    assert text == (
        "dry run: 5 paths found: 1 new, 1 changed, 1 to be tried again, 1 unchanged, 1 skipped;"
        " 4,320 bytes to read\nskipped: 1 hidden\n"
    )
    assert (tmp_path / "run" / "ledger.sqlite").read_bytes() == before


def test_files_of_another_chunk_size_are_embedded_anew_and_a_model_that_is_not_there_says_nothing(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(tmp_path / "run", corpus, a="indexed", b="indexed", c="indexed", d="indexed")
    options = ("--text-model", "stand-in:8", "--chunk-size")
    generation = Generation(config_of(corpus, tmp_path / "run", *options, "32"), print).name("text")
    with closing(sqlite3.connect(tmp_path / "run/ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE items SET kind = 'text', generation = ?", (generation,))
    for size, outcome in (("32", "4 unchanged"), ("64", "4 to be embedded anew")):
        assert f" {outcome}, 1 skipped; " in told(config_of(corpus, tmp_path / "run", *options, size), capsys)
    unknown = config_of(corpus, tmp_path / "run", "--text-model", str(tmp_path / "nowhere"))
    assert " 4 unchanged, " in told(unknown, capsys)


@pytest.mark.parametrize("name", ["a run?", "100%25", "hash#tag", os.fsdecode(b"caf\xe9")])
def test_the_ledger_is_found_in_a_directory_of_any_name(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    remember(tmp_path / name, corpus, a="indexed", b="indexed", c="indexed", d="indexed")
    assert "4 unchanged" in told(config_of(corpus, tmp_path / name), capsys)


def test_what_a_look_at_the_first_bytes_leaves_out_is_told_by_type(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "a.txt").write_bytes(b"")
    (corpus / "b.docx").write_bytes(b"PK\x03\x04" + bytes(60))
    (corpus / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    (corpus / "p.gif").write_bytes(b"GIF89a" + bytes(60))
    config = config_of(corpus, tmp_path / "run", "--no-images", "--exclude", "d.txt")
    assert told(config, capsys) == (
        "dry run: 8 paths found: 2 new, 6 skipped; 320 bytes to read\n"
        "skipped: 1 docx, 1 heic (no parser), 1 empty, 1 excluded, 1 hidden, 1 no-images\n"
    )


def test_what_is_gone_is_told_with_what_deletes_it_or_that_it_would_be_deleted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    remember(run_dir, corpus, a="indexed", b="indexed", c="skipped")
    (corpus / "a.txt").unlink()
    (corpus / "c.txt").unlink()
    text = told(config_of(corpus, run_dir), capsys)
    assert text.splitlines()[-1] == "1 file is gone from the corpus; --prune deletes its records"
    text = told(config_of(corpus, run_dir, "--prune"), capsys)
    assert text.splitlines()[-1] == "pruned: the records of 1 file"
    assert "gone" not in told(config_of(corpus, run_dir, "--include", "*.txt"), capsys)
    assert "gone" not in told(config_of(tmp_path / "corpus", run_dir, "--limit", "1"), capsys)


def test_a_limit_ends_the_listing(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 paths found" in told(config_of(corpus, tmp_path / "run", "--limit", "2"), capsys)


def test_a_folder_that_can_not_be_listed_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list").write_text(f"{corpus}/a.txt\n{corpus}/gone\n")
    config = parse(["--files-from", str(tmp_path / "list"), "--run-dir", str(tmp_path / "run")])
    assert "1 new, 1 unreadable; 1 bytes" in told(config, capsys)


def test_an_empty_corpus_has_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "0 paths found: nothing" in told(config_of(tmp_path / "empty", tmp_path / "run"), capsys)


def test_a_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        dry_run(config_of(tmp_path / "gone", tmp_path / "run"))


def test_a_file_that_is_no_ledger_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/ledger.sqlite").write_bytes(b"something else entirely " * 100)
    with pytest.raises(UsageError, match="not a usable ledger"):
        dry_run(config_of(corpus, tmp_path / "run"))
