"""A run that has nothing to do starts no process; whatever may have changed has the database opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
from adapters.lancedb import VERSIONS
from tests.integration.runs import HANG_S, Corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Notes that were indexed, of which one is empty."""
    corpus = Corpus(tmp_path)
    for number in range(20):
        corpus.write(f"{number}.txt", f"note {number}" if number else "")
    assert corpus.run().code == 0
    return corpus


def opened(corpus: Corpus) -> int:
    """How many runs have started an indexer by now."""
    return (corpus.run_dir / "run.log").read_text().count("indexer started")


def test_a_run_with_nothing_to_do_starts_no_process_and_accounts_for_every_file(corpus: Corpus) -> None:
    assert opened(corpus) == 1
    for _ in range(2):
        again = corpus.run()
        assert (again.code, again.files) == (0, {"discovered": 20, "unchanged": 19, "skipped": 1})
        assert again.summary["totals"] == {"files": 19, "records": 19}
        assert again.summary["peak_pss_bytes"]["indexer"] == 0
    assert opened(corpus) == 1
    assert [line["rule"] for line in again.lines("skipped.jsonl")] == ["empty"]


def test_new_changed_and_gone_files_are_met_as_ever(corpus: Corpus) -> None:
    corpus.write("3.txt", "another note")
    corpus.write("new.txt", "a new note")
    changed = corpus.run()
    assert changed.files == {"discovered": 21, "indexed": 2, "unchanged": 18, "skipped": 1}
    assert corpus.run().files == {"discovered": 21, "unchanged": 20, "skipped": 1}
    assert opened(corpus) == 2
    (corpus.files / "5.txt").unlink()
    assert corpus.run("--prune").files["removed"] == 1
    assert len(corpus.records()) == 19


def test_other_options_have_the_database_opened(corpus: Corpus) -> None:
    assert corpus.run("--field", "owner=me").code != 0 or opened(corpus) == 2
    assert opened(corpus) == 2


def test_a_table_that_others_wrote_to_is_opened_and_then_known(corpus: Corpus) -> None:
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root, corpus.root / "other"
    other.files.mkdir()
    other.write("more.txt", "of another run directory")
    command = ["--run-dir", str(corpus.root / "other run")]
    assert other.run(*command, url=corpus.url).code == 0
    before = opened(corpus)
    assert corpus.run().code == 0
    assert opened(corpus) == before + 1
    assert corpus.run().code == 0
    assert opened(corpus) == before + 1


def test_a_table_that_is_gone_is_noticed(corpus: Corpus) -> None:
    shutil.rmtree(corpus.root / "db")
    gone = corpus.run()
    assert gone.code == 2
    assert "the index that this run directory filled is gone" in gone.err


def test_what_tells_that_a_table_is_as_it_was_is_where_lance_keeps_it(corpus: Corpus) -> None:
    assert list((corpus.root / "db" / VERSIONS).glob("*.manifest"))
    first = adapters.left_as(corpus.url)
    assert first is not None
    assert adapters.left_as(corpus.url) == first
    adapter = adapters.connect(corpus.url)
    adapter.prepare()
    adapter.delete([next(iter(corpus.records()))])
    adapter.close()
    assert adapters.left_as(corpus.url) not in (None, first)
    assert adapters.left_as("memory://x") is None


#: Runs the engine as its command does; at one point of the run somebody else deletes a record.
MEANWHILE = """
import sys
import adapters
from engine.{module} import {owner}
from engine.run import main

plain, url = {owner}.{method}, sys.argv[sys.argv.index("--adapter") + 1]

def meanwhile(self, *given):
    found = plain(self, *given)
    adapter = adapters.connect(url)
    adapter.prepare()
    adapter.delete([next(adapter.scan())["id"]])
    adapter.close()
    return found

{owner}.{method} = meanwhile
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [
        ("runtime.flow.intake", "Intake", "nothing_to_do"),
        ("runtime.ledger.accounts", "Accounts", "count_gone"),
    ],
)
def test_what_others_write_during_a_needless_run_is_noticed_by_it_or_the_next(
    corpus: Corpus, module: str, owner: str, method: str
) -> None:
    script = MEANWHILE.format(module=module, owner=owner, method=method)
    command = [sys.executable, "-c", script, *corpus.command()[3:]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=HANG_S)
    lost = "holds 18 records, fewer than the 19 that were acknowledged"
    assert done.returncode == 2 and lost in done.stderr if method == "nothing_to_do" else done.returncode == 0
    again = corpus.run()
    assert again.code == 2
    assert lost in again.err
