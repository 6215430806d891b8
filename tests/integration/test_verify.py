"""`python -m engine.verify` against real databases that somebody changed behind the engine's back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from elasticsearch import Elasticsearch
from PIL import Image

from engine.sources.base import shard_of
from tests.integration.runs import HANG_S, Corpus, kill_group, same_vectors
from tests.integration.tampering import Database, Elastic, Lance
from tests.integration.test_run import PROSE, big_corpus, wait_for_records

FOREIGN = "ab" * 16

Records = dict[str, dict[str, object]]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Six texts of several chunks each, and a picture."""
    corpus = Corpus(tmp_path)
    for number in range(6):
        corpus.write(f"note {number}.txt", f"Note {number}. " + PROSE * (40 + 10 * number))
    Image.new("RGB", (40, 30), "red").save(corpus.files / "red.png")
    return corpus


@pytest.fixture(params=["lancedb", "elasticsearch"])
def database(request: pytest.FixtureRequest, corpus: Corpus) -> Iterator[Database]:
    """The index of the corpus, in each kind of database."""
    if request.param == "lancedb":
        yield Lance(corpus.root / "db")
        return
    server = request.getfixturevalue("elasticsearch_url")
    name = f"verify-{uuid.uuid4().hex[:12]}"
    with Elasticsearch(server.replace("elasticsearch://", "http://")) as client:
        yield Elastic(f"{server}/{name}", client)
        client.indices.delete(index=f"{name}-000001,kept-{name}", ignore_unavailable=True)


@pytest.fixture
def filled(corpus: Corpus, database: Database) -> Records:
    """The records of an undisturbed run."""
    done = corpus.run("--quiet", url=database.url)
    assert done.code == 0, done.err
    return corpus.records(database.url)


@dataclass(frozen=True)
class Told:
    """What a verification said."""

    code: int
    found: dict[str, Any]
    err: str

    def counts(self) -> tuple[int, int, int]:
        """Missing, extra, wrong."""
        missing, extra, wrong = (self.found[name]["count"] for name in ("missing", "extra", "wrong"))
        return missing, extra, wrong


def command(corpus: Corpus, url: str, *options: str) -> list[str]:
    start = [sys.executable, "-m", "engine.verify", "--run-dir", str(corpus.run_dir), "--adapter", url]
    return [*start, *options]


def verify(corpus: Corpus, url: str, *options: str) -> Told:
    done = subprocess.run(
        command(corpus, url, "--json", *options), capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Told(done.returncode, json.loads(done.stdout or "{}"), done.stderr)


def of(records: Records, name: str) -> list[str]:
    """The ids of one file's records, in the order of the text."""
    mine = [row for row in records.values() if str(row["source"]).endswith(name)]
    return [str(row["id"]) for row in sorted(mine, key=lambda row: int(str(row["start"] or 0)))]


def test_a_finished_run_and_its_database_agree(corpus: Corpus, database: Database, filled: Records) -> None:
    told = verify(corpus, database.url)
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert told.found["acknowledged"] == told.found["in_database"] == len(filled)
    text = subprocess.run(command(corpus, database.url), capture_output=True, text=True, check=False)
    assert text.returncode == 0
    assert text.stdout.splitlines()[-1] == "ledger and database agree"


def test_what_was_deleted_added_or_altered_is_named_and_mended(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    gone, text, moved, vector = of(filled, "5.txt")[1], *of(filled, "4.txt")[:3]
    (picture,) = of(filled, "red.png")
    database.delete([gone, *of(filled, "0.txt"), picture])
    database.alter(text, {"text": "somebody else's words"})
    database.alter(moved, {"source": "/else/where.txt"})
    database.alter(vector, {"text_embedding": None})
    database.copy(of(filled, "3.txt")[0], FOREIGN, {"source": "/foreign.txt"})
    told = verify(corpus, database.url)
    assert told.code == 1
    missing = {example["id"]: example["source"] for example in told.found["missing"]["examples"]}
    assert missing == {record: filled[record]["source"] for record in (gone, picture, *of(filled, "0.txt"))}
    assert [example["source"] for example in told.found["extra"]["examples"]] == ["/foreign.txt"]
    assert {example["id"]: example["why"] for example in told.found["wrong"]["examples"]} == {
        text: "its text is not what its content_hash says",
        moved: "its id is not the digest of its fields",
        vector: "it has no vector",
    }
    # Nothing was changed by looking.
    assert verify(corpus, database.url).counts() == told.counts()
    mended = verify(corpus, database.url, "--repair")
    assert (mended.code, mended.counts()) == (0, (0, 0, 0)), mended.err
    assert mended.found["repaired"]["deleted"] == 4
    assert same_vectors(corpus.records(database.url), filled)
    # Only what was concerned was made again.
    again = json.loads((corpus.run_dir / "summary.json").read_text())
    assert again["files"]["discovered"] == 4
    assert corpus.run(url=database.url).files == {"discovered": 7, "unchanged": 7}


def refused(corpus: Corpus, database: Database, why: str) -> None:
    """The run must say what is wrong and what mends it; then that very command must mend it."""
    result = corpus.run(url=database.url)
    assert result.code == 2
    assert why in result.err
    line = f"python -m engine.verify --run-dir {corpus.run_dir} --adapter {database.url} --repair"
    assert line in result.err
    words = [sys.executable, *line.split()[1:]]
    assert verify(corpus, database.url).code == 1
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_database_that_was_deleted_is_made_again(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    database.drop()
    refused(corpus, database, "is gone")
    assert same_vectors(corpus.records(database.url), filled)
    assert corpus.run(url=database.url).files == {"discovered": 7, "unchanged": 7}


def test_a_database_that_was_replaced_by_an_empty_one_is_filled_again(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    database.drop()
    empty = corpus.root / "empty"
    empty.mkdir()
    other = [str(empty) if part == str(corpus.files) else part for part in corpus.command(url=database.url)]
    subprocess.run([*other, "--run-dir", str(corpus.root / "other")], check=True, capture_output=True)
    refused(corpus, database, "was replaced")
    assert same_vectors(corpus.records(database.url), filled)


def test_a_database_that_was_restored_from_an_older_backup_is_brought_up_to_date(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    database.back_up()
    corpus.write("note 1.txt", "quite another text " * 300)
    corpus.write("late.txt", PROSE * 60)
    assert corpus.run(url=database.url).code == 0
    newer = corpus.records(database.url)
    database.restore()
    assert corpus.records(database.url).keys() == filled.keys()
    lancedb = isinstance(database, Lance)
    refused(corpus, database, "fewer than the" if lancedb else "was replaced")
    assert same_vectors(corpus.records(database.url), newer)
    assert corpus.run(url=database.url).files == {"discovered": 8, "unchanged": 8}


def test_a_lost_ledger_is_adopted_and_nothing_is_embedded_twice(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    shutil.rmtree(corpus.run_dir)
    told = verify(corpus, database.url, "--adopt")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert told.found["adopted"] == {"whole": 7, "to_make": 0, "gone": 0, "records": len(filled)}
    again = corpus.run(url=database.url)
    assert again.files == {"discovered": 7, "unchanged": 7}
    assert again.summary["chunks"] == dict.fromkeys(
        ("text", "image", "deduplicated", "indexed", "deleted"), 0
    )
    assert verify(corpus, database.url).code == 0
    refused_now = verify(corpus, database.url, "--adopt")
    assert refused_now.code == 2
    assert "its ledger already holds 7 items" in refused_now.err


def test_what_changed_since_the_ledger_was_lost_is_made_by_the_next_run(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    shutil.rmtree(corpus.run_dir)
    end = corpus.files / "note 5.txt"
    end.write_text(end.read_text() + "A new end.")
    corpus.write("note 1.txt", "quite another text " * 300)
    (corpus.files / "note 2.txt").unlink()
    database.delete(of(filled, "3.txt")[:1])
    told = verify(corpus, database.url, "--adopt")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert told.found["adopted"] == {"whole": 3, "to_make": 3, "gone": 1, "records": len(filled) - 1}
    again = corpus.run("--prune", url=database.url)
    assert again.code == 0, again.err
    assert again.files == {"discovered": 6, "indexed": 3, "unchanged": 3, "removed": 1}
    assert verify(corpus, database.url).code == 0
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "anew", corpus.files
    assert other.run().code == 0
    assert same_vectors(corpus.records(database.url), other.records())


def test_an_adopted_ledger_mends_a_database_that_is_lost_in_its_turn(
    corpus: Corpus, database: Database, filled: Records
) -> None:
    shutil.rmtree(corpus.run_dir)
    assert verify(corpus, database.url, "--adopt").code == 0
    database.drop()
    told = verify(corpus, database.url, "--repair")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert same_vectors(corpus.records(database.url), filled)


# What is the same whatever the database


@pytest.fixture
def lance(corpus: Corpus) -> Lance:
    """The corpus indexed in LanceDB."""
    assert corpus.run("--quiet").code == 0
    return Lance(corpus.root / "db")


def test_a_file_that_is_gone_can_not_be_made_again_and_is_named(corpus: Corpus, lance: Lance) -> None:
    records = corpus.records()
    source = corpus.files / "note 2.txt"
    source.unlink()
    lance.delete(of(records, "2.txt")[:2] + of(records, "3.txt")[:1])
    told = verify(corpus, lance.url, "--repair")
    assert told.code == 1
    assert told.counts() == (0, 0, 0)
    assert [one["source"] for one in told.found["repaired"]["not_made"]["examples"]] == [str(source)]
    assert "it is gone" in (corpus.run_dir / "failures.jsonl").read_text()
    assert corpus.records().keys() == records.keys() - set(of(records, "2.txt")[:2])


def test_a_name_that_no_list_can_hold_is_repaired_all_the_same(corpus: Corpus) -> None:
    corpus.write("two\nlines.txt", PROSE * 60)
    corpus.write("ends in\r", PROSE * 60)
    assert corpus.run().code == 0
    records = corpus.records()
    Lance(corpus.root / "db").drop()
    told = verify(corpus, corpus.url, "--repair")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert same_vectors(corpus.records(), records)


def test_a_picture_is_made_again_after_a_run_that_left_pictures_out(corpus: Corpus, lance: Lance) -> None:
    records = corpus.records()
    assert corpus.run("--no-images", "--include", "note*", "--limit", "3").code == 0
    lance.delete(of(records, "red.png") + of(records, "5.txt"))
    assert verify(corpus, lance.url, "--repair").code == 0
    assert same_vectors(corpus.records(), records)


def test_records_of_another_chunk_size_that_are_still_wanted_are_no_fault(
    corpus: Corpus, lance: Lance
) -> None:
    before = corpus.records()
    assert corpus.run("--chunk-size", "64", "--include", "note 0.txt").code == 0
    told = verify(corpus, lance.url)
    assert (told.code, told.counts()) == (0, (0, 0, 0))
    after = corpus.records()
    assert set(of(before, "5.txt")) <= after.keys()
    assert not set(of(before, "0.txt")) & after.keys()


def test_another_index_under_the_name_is_not_emptied(corpus: Corpus, lance: Lance) -> None:
    lance.drop()
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "another", corpus.root / "other files"
    other.files.mkdir()
    other.write("foreign.txt", "not of this run")
    assert other.run(url=lance.url).code == 0
    told = verify(corpus, lance.url, "--repair")
    assert told.code == 2
    assert "so it is another index" in told.err
    assert len(corpus.records()) == 1


def test_several_run_directories_are_compared_as_one(corpus: Corpus, lance: Lance) -> None:
    records = corpus.records()
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "another", corpus.root / "other files"
    other.files.mkdir()
    other.write("more.txt", PROSE * 60)
    first = other.run(url=lance.url)
    assert f"the index holds {len(records)} records already" in first.err
    assert f"--run-dir {other.run_dir} --adapter {lance.url} --adopt" in first.err
    assert "already" not in other.run(url=lance.url).err
    everything = corpus.records()
    alone = verify(corpus, lance.url)
    assert (alone.code, alone.counts()) == (1, (0, len(everything) - len(records), 0))
    both = ("--run-dir", str(other.run_dir))
    assert verify(corpus, lance.url, *both).code == 0
    lance.delete([of(records, "5.txt")[0], of(everything, "more.txt")[0]])
    mended = verify(corpus, lance.url, *both, "--repair")
    assert (mended.code, mended.counts()) == (0, (0, 0, 0)), mended.err
    assert same_vectors(corpus.records(), everything)


def embedded(corpus: Corpus, shard: int) -> int:
    """How many chunks a run of one shard of three embeds."""
    assert corpus.run("--shard", f"{shard}/3").code == 0
    summary = corpus.run_dir / "shards" / f"{shard}-of-3" / "summary.json"
    chunks = json.loads(summary.read_text())["chunks"]
    return int(chunks["text"] + chunks["image"])


def test_shards_are_compared_as_one_and_repaired_each_by_its_own_ledger(corpus: Corpus) -> None:
    for number in range(3):
        assert corpus.run("--shard", f"{number}/3").code == 0
    records = corpus.records()
    told = verify(corpus, corpus.url)
    assert (told.code, told.found["acknowledged"]) == (0, len(records))
    lost = [one for name in range(6) for one in of(records, f"{name}.txt")[:1]]
    Lance(corpus.root / "db").delete(lost)
    assert verify(corpus, corpus.url).counts() == (6, 0, 0)
    assert verify(corpus, corpus.url, "--repair").code == 0
    assert same_vectors(corpus.records(), records)
    assert [embedded(corpus, number) for number in range(3)] == [0, 0, 0]
    # A shard whose ledger is lost: its records are in no ledger, and nobody may delete them. Which shard
    # a file is in depends on its path, and a shard may be empty: take one that has records.
    number = shard_of(str(records[lost[0]]["source"]), 3)
    shard = corpus.run_dir / "shards" / f"{number}-of-3"
    (shard / "ledger.sqlite").unlink()
    for option, told_of in (("--repair", shard), ("--adopt", shard.with_name("0-of-3"))):
        refused_now = verify(corpus, corpus.url, option)
        assert refused_now.code == 2
        assert str(told_of) in refused_now.err
    single = [*command(corpus, corpus.url)[:3], "--run-dir", str(shard), "--adapter", corpus.url, "--adopt"]
    subprocess.run(single, capture_output=True, check=False, timeout=HANG_S)
    assert verify(corpus, corpus.url).code == 0
    assert embedded(corpus, number) == 0


# Killed in the middle

#: Dies by SIGKILL right before or after a step of the repair.
KILLED = """
import os, signal, sys
from engine.repair import repair
from engine.runtime import supervisor
where, name, after = {"repair": repair, "run": supervisor.Supervisor}[sys.argv[1]], sys.argv[2], sys.argv[3]
step = getattr(where, name)
def last(*arguments):
    if after == "after":
        step(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(where, name, last)
from engine.verify import main
main(sys.argv[4:])
"""

STEPS = [
    ("repair", "clear", "after"),
    ("repair", "_extend_list", "after"),
    ("repair", "mark", "after"),
    ("run", "_admit", "before"),
    ("repair", "finish", "before"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: " ".join(step[1:]))
def test_a_repair_that_is_killed_between_two_steps_is_finished_by_the_same_command(
    corpus: Corpus, lance: Lance, step: tuple[str, str, str]
) -> None:
    records = corpus.records()
    lance.delete([*of(records, "0.txt"), of(records, "5.txt")[1]])
    lance.alter(of(records, "4.txt")[0], {"text": "altered"})
    lance.copy(of(records, "3.txt")[0], FOREIGN, {})
    options = command(corpus, lance.url, "--repair")[3:]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *step, *options], capture_output=True, timeout=HANG_S, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    told = verify(corpus, lance.url, "--repair")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert same_vectors(corpus.records(), records)
    assert not list(corpus.run_dir.glob("repair.*")) and not list(corpus.run_dir.glob(".verify-*"))
    assert corpus.run().files == {"discovered": 7, "unchanged": 7}


def test_a_repair_that_is_killed_while_it_embeds_goes_on_where_it_stopped(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path, lines=15_000)
    assert corpus.run(text_model="stand-in:16@150000").code == 0
    records = corpus.records()
    Lance(tmp_path / "db").drop()
    for least in (300, 900):
        process = psutil.Popen(
            command(corpus, corpus.url, "--repair"), stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_for_records(corpus, least)
        finally:
            kill_group(process.pid)
            process.wait(HANG_S)
        (corpus.run_dir / "status.json").unlink()
    there = len(corpus.records())
    assert 0 < there < len(records)
    told = verify(corpus, corpus.url, "--repair")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    assert same_vectors(corpus.records(), records)
    assert json.loads((corpus.run_dir / "summary.json").read_text())["chunks"]["text"] < len(records)


def test_a_repair_that_is_asked_to_stop_ends_resumable(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path, lines=15_000)
    assert corpus.run(text_model="stand-in:16@150000").code == 0
    Lance(tmp_path / "db").drop()
    process = psutil.Popen(
        command(corpus, corpus.url, "--repair"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for_records(corpus, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG_S) == 75
        assert "run the same command again" in process.stderr.read()
    finally:
        kill_group(process.pid)
        process.stderr.close()
    assert verify(corpus, corpus.url, "--repair").code == 0


#: Dies by SIGKILL when the third file is parsed.
KILLED_ADOPTING = """
import os, signal, sys
from engine.repair import adopt
parsed = adopt._Adoption._parsed
met = []
def deadly(self, key, row):
    met.append(row)
    if len(met) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return parsed(self, key, row)
adopt._Adoption._parsed = deadly
from engine.verify import main
main(sys.argv[1:])
"""


def test_an_adoption_goes_on_behind_the_file_at_which_it_was_killed(corpus: Corpus, lance: Lance) -> None:
    records = corpus.records()
    shutil.rmtree(corpus.run_dir)
    options = command(corpus, lance.url, "--adopt")[3:]
    killed = subprocess.run([sys.executable, "-c", KILLED_ADOPTING, *options], check=False, timeout=HANG_S)
    assert killed.returncode == -signal.SIGKILL
    told = verify(corpus, lance.url, "--adopt")
    assert (told.code, told.counts()) == (0, (0, 0, 0)), told.err
    # The file that may be deadly is left to the engine, whose parsers may die.
    assert told.found["adopted"] == {"whole": 4, "to_make": 1, "gone": 0, "records": len(records)}
    again = corpus.run()
    assert again.files == {"discovered": 7, "indexed": 1, "unchanged": 6}
    assert same_vectors(corpus.records(), records)
    assert verify(corpus, lance.url).code == 0


# What can't be verified


def test_what_can_not_be_verified_is_told_in_one_line(corpus: Corpus, lance: Lance) -> None:
    nowhere = Corpus.__new__(Corpus)
    nowhere.root = corpus.root / "nowhere"
    told = verify(nowhere, lance.url)
    assert told.code == 2
    assert "no ledger.sqlite there" in told.err
    assert not nowhere.run_dir.exists()
    other = verify(corpus, f"lancedb://{corpus.root}/else")
    assert other.code == 2
    assert lance.url in other.err and f"lancedb://{corpus.root}/else" in other.err
    down = verify(corpus, "elasticsearch://127.0.0.1:1/index", "--adopt")
    assert (down.code, len(down.err.splitlines())) == (2, 1)
    secret = verify(corpus, "elasticsearch://elastic:hidden@127.0.0.1:1/index")
    assert secret.code == 2
    assert "hidden" not in secret.err
    nothing = verify(nowhere, f"lancedb://{corpus.root}/else", "--adopt")
    assert (nothing.code, nowhere.run_dir.exists()) == (2, False)
    assert "no index there" in nothing.err
    for refusal in (told, other, nothing):
        assert len(refusal.err.splitlines()) == 1, refusal.err


def test_a_run_that_is_at_work_is_left_alone(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@10000") as process:
        wait_for_records(corpus, 1)
        told = verify(corpus, corpus.url, "--repair")
        assert told.code == 2
        assert f"locked by process {process.pid}" in told.err
        assert process.poll() is None
