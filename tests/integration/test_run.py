"""`python -m engine.run` as a user meets it, with stand-in models and a real LanceDB."""

from __future__ import annotations

import json
import os
import shutil
import signal
from copy import copy
from pathlib import Path

import lancedb
import psutil
import pytest
from PIL import Image

from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until

PROSE = "Bees keep the hive warm. They dance to tell where flowers are.\n\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Twelve small texts and two pictures."""
    corpus = Corpus(tmp_path)
    for number in range(12):
        corpus.write(f"notes/note {number}.txt", f"Note {number}. " + PROSE * (5 + number))
    Image.new("RGB", (40, 30), "red").save(corpus.files / "red.png")
    Image.new("RGB", (30, 40), "blue").save(corpus.files / "blue.jpg")
    return corpus


def big_corpus(tmp_path: Path, lines: int = 1000) -> Corpus:
    """Enough text that a rate-limited stand-in works on it for some seconds: eight files, the first one of
    several segments, the others of so many lines. 1,000 lines are some 20,000 tokens in 75 chunks."""
    corpus = Corpus(tmp_path)
    for number in range(8):
        count = 15_000 if number == 0 else lines
        corpus.write(f"big {number}.txt", "".join(f"{number}, {i}: {PROSE}" for i in range(count)))
    return corpus


def wait_for_records(corpus: Corpus, records: int) -> None:
    """Wait until the run says that so many records are written."""

    def written() -> int:
        try:
            status = json.loads((corpus.run_dir / "status.json").read_text())
        except FileNotFoundError:
            return 0
        return int(status["chunks"]["indexed"])

    wait_until(lambda: written() >= records)


def children_by_score(supervisor: psutil.Popen, score: str = "800") -> list[int]:
    """The children with that standing in the kernel's choice of victims: 800 parsers, 200 inference, 100
    the indexer."""

    def told(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
        except OSError:
            return ""

    return [child.pid for child in supervisor.children() if told(child.pid) == score]


def undisturbed(corpus: Corpus, *options: str) -> dict[str, dict[str, object]]:
    """The records of the same files by a run of its own."""
    other = copy(corpus)
    other.root = corpus.root / "undisturbed"
    assert other.run(*options).code == 0
    return other.records()


def test_a_vector_index_that_is_asked_for_later_is_made_though_no_file_changed(corpus: Corpus) -> None:
    def indexes() -> list[str]:
        table = lancedb.connect(corpus.url.partition("://")[2]).open_table("chunks")
        return [index.index_type for index in table.list_indices()]

    assert corpus.run().code == 0
    assert indexes() == []
    again = corpus.run("--adapter", f"{corpus.url}?index=ivf_flat")
    assert (again.code, again.summary["chunks"]["indexed"]) == (0, 0)
    assert indexes() == ["IvfFlat"] * 2  # of texts and of pictures
    assert corpus.run("--adapter", f"{corpus.url}?index=exact").code == 0
    assert indexes() == []


def test_a_folder_becomes_records_and_a_rerun_changes_nothing(corpus: Corpus) -> None:
    corpus.write("empty.txt", "")
    corpus.write(".hidden.txt", "not for you")
    first = corpus.run()
    assert first.code == 0, first.err
    assert first.files == {"discovered": 16, "indexed": 14, "skipped": 2}
    assert {line["rule"] for line in first.lines("skipped.jsonl")} == {"empty", "hidden"}
    assert first.lines("failures.jsonl") == []
    records = corpus.records()
    assert first.summary["chunks"]["indexed"] == len(records) == first.summary["totals"]["records"]
    assert {r["source"] for r in records.values() if r["kind"] == "image"} == {
        str(corpus.files / "red.png"),
        str(corpus.files / "blue.jpg"),
    }
    again = corpus.run()
    assert again.code == 0
    assert again.files == {"discovered": 16, "unchanged": 14, "skipped": 2}
    assert again.summary["chunks"] == dict.fromkeys(
        ("text", "image", "deduplicated", "indexed", "deleted"), 0
    )
    assert same_vectors(records, corpus.records())


def test_offsets_of_records_index_the_text_of_their_file(corpus: Corpus) -> None:
    corpus.run()
    for record in corpus.records().values():
        if record["kind"] == "text":
            text = Path(str(record["source"])).read_text(encoding="utf-8")
            start, end = record["start"], record["end"]
            assert isinstance(start, int) and isinstance(end, int)
            assert record["text"] == text[start:end]


def test_a_changed_file_has_its_new_records_and_none_of_its_old(corpus: Corpus) -> None:
    corpus.run()
    before = corpus.records()
    changed = corpus.write("notes/note 3.txt", "Quite another text. " * 40)
    result = corpus.run()
    assert result.files == {"discovered": 14, "indexed": 1, "unchanged": 13}
    after = corpus.records()
    others = {key for key, record in before.items() if record["source"] != str(changed)}
    assert {key for key, record in after.items() if record["source"] != str(changed)} == others
    texts = [str(record["text"]) for record in after.values() if record["source"] == str(changed)]
    assert texts
    assert all("Quite another" in text for text in texts)
    assert result.summary["chunks"]["deleted"] == len(before) - len(others)


def test_a_touched_file_is_unchanged(corpus: Corpus) -> None:
    corpus.run()
    os.utime(corpus.files / "notes/note 3.txt", (1, 1))
    result = corpus.run()
    assert result.files == {"discovered": 14, "unchanged": 14}
    assert result.summary["chunks"]["text"] == 0


def test_a_removed_file_stays_until_pruned(corpus: Corpus) -> None:
    corpus.run()
    gone = corpus.files / "notes/note 3.txt"
    gone.unlink()
    assert corpus.run().code == 0
    assert str(gone) in {record["source"] for record in corpus.records().values()}
    result = corpus.run("--prune")
    assert result.code == 0
    assert result.files["removed"] == 1
    assert str(gone) not in {record["source"] for record in corpus.records().values()}
    assert result.summary["totals"]["records"] == len(corpus.records())


def test_a_narrowed_run_prunes_nothing(corpus: Corpus) -> None:
    corpus.run()
    before = corpus.records()
    for options in (("--include", "*3.txt", "--no-images"), ("--limit", "2"), ("--exclude", "*.txt")):
        assert corpus.run("--prune", *options).code == 0
        assert corpus.records().keys() == before.keys()


def test_another_chunk_size_replaces_the_records(corpus: Corpus) -> None:
    corpus.run()
    before = corpus.records()
    result = corpus.run("--chunk-size", "32")
    assert result.code == 0
    assert result.files == {"discovered": 14, "indexed": 12, "unchanged": 2}
    after = corpus.records()
    assert not {key for key, r in before.items() if r["kind"] == "text"} & after.keys()
    assert len(after) == result.summary["totals"]["records"]


def test_a_file_that_cant_be_parsed_is_told_and_nothing_else_is_lost(corpus: Corpus) -> None:
    (corpus.files / "broken.png").write_bytes((corpus.files / "red.png").read_bytes()[:60])
    result = corpus.run()
    assert result.code == 3
    assert result.files == {"discovered": 15, "indexed": 14, "failed": 1}
    (failure,) = result.lines("failures.jsonl")
    assert failure["source"] == str(corpus.files / "broken.png")
    assert failure["stage"] == "parse"
    assert failure["attempts"] == 1
    assert "broken.png" not in {record["source"] for record in corpus.records().values()}
    again = corpus.run()
    assert again.code == 3
    assert again.lines("failures.jsonl")[0]["attempts"] == 2
    assert corpus.run("--skip-failed").files == {"discovered": 15, "unchanged": 14, "failed": 1}
    Image.new("RGB", (40, 30), "green").save(corpus.files / "broken.png")
    assert corpus.run().code == 0


def test_a_killed_run_resumes_to_the_records_of_an_undisturbed_one(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@40000") as process:
        wait_for_records(corpus, 600)
        assert process.poll() is None, "it ended before it could be killed"
    killed = len(corpus.records())
    result = corpus.run()
    assert result.code == 0, result.err
    resumed = corpus.records()
    assert 600 <= killed < len(resumed)
    assert result.summary["chunks"]["text"] < len(resumed), "the resumed run did everything anew"
    assert result.summary["totals"]["records"] == len(resumed)
    assert same_vectors(resumed, undisturbed(corpus))


def test_a_killed_parser_is_replaced_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--quiet", text_model="stand-in:16@150000") as process:
        log = corpus.run_dir / "run.log"
        kills = 0
        for _ in range(3):
            wait_until(lambda: children_by_score(process) or process.poll() is not None)
            for pid in children_by_score(process):
                os.kill(pid, signal.SIGKILL)
                kills += 1
                wait_until(lambda pid=pid: pid not in children_by_score(process))  # type: ignore[misc]
        assert process.wait(HANG_S) == 0
        assert kills >= 1
        assert "was killed by SIGKILL" in log.read_text()
    records = corpus.records()
    assert corpus.run().files == {"discovered": 8, "unchanged": 8}
    assert same_vectors(records, undisturbed(corpus))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_drains_the_run_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    corpus = big_corpus(tmp_path, lines=5_000)
    with corpus.started("--buffer", "7MiB", text_model="stand-in:16@150000") as process:
        wait_for_records(corpus, 1)
        process.send_signal(number)
        assert process.wait(HANG_S) == 75
        assert "run the same command again" in process.stderr.read()
    result = corpus.run()
    assert result.code == 0
    assert len(corpus.records()) == result.summary["totals"]["records"]


def test_a_second_ctrl_c_stops_at_once_and_stays_resumable(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--buffer", "7MiB", text_model="stand-in:16@20000") as process:
        wait_for_records(corpus, 1)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "SIGINT" in (corpus.run_dir / "run.log").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 75
        assert "interrupted twice" in process.stderr.read()
    result = corpus.run()
    assert result.code == 0
    assert len(corpus.records()) == result.summary["totals"]["records"]


def test_children_die_with_their_supervisor(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@40000") as process:
        wait_until(lambda: len(process.children()) >= 3)
        children = process.children()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(HANG_S)
        wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


def test_a_second_run_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@10000") as process:
        wait_until((corpus.run_dir / "status.json").exists)
        result = corpus.run()
        assert result.code == 2
        assert f"locked by process {process.pid}" in result.err
        assert process.poll() is None


def test_shards_share_the_corpus_without_overlap(corpus: Corpus) -> None:
    found = [corpus.run("--shard", f"{i}/3", url=f"lancedb://{corpus.root}/db{i}") for i in range(3)]
    assert all(result.code == 0 for result in found)
    assert (corpus.run_dir / "shards" / "0-of-3" / "summary.json").exists()
    parts = [corpus.records(f"lancedb://{corpus.root}/db{i}") for i in range(3)]
    together = [key for part in parts for key in part]
    assert sorted(together) == sorted(undisturbed(corpus))


def test_constant_fields_are_in_every_record(corpus: Corpus) -> None:
    assert corpus.run("--field", "project=bees").code == 0
    assert {record["project"] for record in corpus.records().values()} == {"bees"}


def test_two_run_directories_over_one_index_double_nothing(corpus: Corpus) -> None:
    corpus.run()
    before = corpus.records()
    other = corpus.run("--run-dir", str(corpus.root / "other"))
    assert other.code == 0
    assert same_vectors(before, corpus.records())
    corpus.write("late.txt", "a late note")
    assert corpus.run().files == {"discovered": 15, "indexed": 1, "unchanged": 14}
    assert corpus.run("--run-dir", str(corpus.root / "other")).code == 0
    assert len(corpus.records()) == len(before) + 1
    # As many records as the first ledger knows, but not the same: one came and one went by the other run.
    corpus.write("later.txt", "a later note")
    (corpus.files / "late.txt").unlink()
    assert corpus.run("--run-dir", str(corpus.root / "other"), "--prune").code == 0
    assert corpus.run().code == 0
    assert len(corpus.records()) == len(before) + 1


def test_a_second_writer_of_one_lancedb_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@10000") as process:
        wait_for_records(corpus, 1)
        result = corpus.run("--run-dir", str(tmp_path / "other"))
        assert result.code == 2
        assert "another process writes to it" in result.err
        assert not (tmp_path / "other/summary.json").exists()
        assert process.poll() is None


def test_a_signal_during_pruning_leaves_the_rest_to_the_same_command(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(700):
        corpus.write(f"{number}.txt", f"note {number}")
    assert corpus.run().code == 0
    for number in range(1, 700):
        (corpus.files / f"{number}.txt").unlink()
    with corpus.started("--prune") as process:
        wait_until((corpus.run_dir / "status.json").exists)
        process.send_signal(signal.SIGTERM)
        code = process.wait(HANG_S)
    left = len(corpus.records())
    assert (code, left) == (0, 1) or (code == 75 and left > 1)
    assert corpus.run("--prune").code == 0
    assert len(corpus.records()) == 1


def test_pictures_alone_wait_for_their_model_however_many_parsers_bring_them(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(8):
        Image.new("RGB", (20, 20), (number * 20, 0, 0)).save(corpus.files / f"{number}.png")
    result = corpus.run("--workers", "4")
    assert result.code == 0, result.err
    assert result.summary["chunks"]["image"] == 8


def test_two_names_that_come_out_as_one_source_are_both_told(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("x%FF.txt", "a name with a percent sign")
    (corpus.files / os.fsdecode(b"x\xff.txt")).write_text("a name that is not UTF-8")
    result = corpus.run()
    assert result.files == {"discovered": 2, "indexed": 1, "skipped": 1}
    assert [line["rule"] for line in result.lines("skipped.jsonl")] == ["name-collision"]


def test_an_index_deleted_in_mid_run_ends_it_with_a_summary(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@40000") as process:
        wait_for_records(corpus, 1)
        shutil.rmtree(corpus.root / "db")
        assert process.wait(HANG_S) == 1
        assert "Traceback" not in process.stderr.read()
    assert json.loads((corpus.run_dir / "summary.json").read_text())["status"] == "error"
    assert not (corpus.run_dir / "status.json").exists()


def test_a_dry_run_changes_nothing(corpus: Corpus) -> None:
    result = corpus.run("--dry-run")
    assert result.code == 0
    assert "14 new" in result.out
    assert not corpus.run_dir.exists()
    corpus.run()
    assert "14 unchanged" in corpus.run("--dry-run").out


def test_bytes_in_flight_stay_within_the_buffer(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path, lines=10_000)  # which is more than twice that on its way
    result = corpus.run("--buffer", "7MiB")
    assert result.code == 0
    assert 0 < result.summary["peak_in_flight_bytes"] <= 7 * 2**20


BAD_INPUT = [
    (["missing-folder"], [], "input {root}/missing-folder: no such file or directory"),
    ([], ["--adapter", "nosuch://x"], "--adapter nosuch://x: unknown database"),
    ([], ["--chunk-size", "5000"], "5000"),
    ([], ["--chunk-size", "64", "--chunk-overlap", "64"], "overlap 64"),
    ([], ["--buffer", "1MiB"], "--buffer 1048576"),
    ([], ["--run-dir", "/proc/nowhere"], "--run-dir /proc/nowhere"),
    ([], ["--adapter", "elasticsearch://127.0.0.1:9/x"], "127.0.0.1:9"),
    ([], ["--text-model", "no-such-model-here"], "no-such-model-here"),
    ([], ["--shard", "3/3"], "3/3"),
    ([], ["--unknown"], "--unknown"),
]


@pytest.mark.parametrize(("inputs", "options", "told"), BAD_INPUT, ids=lambda value: str(value)[:40])
def test_bad_input_exits_2_with_one_line(
    corpus: Corpus, inputs: list[str], options: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = corpus.run(*[str(corpus.root / name) for name in inputs], *options)
    assert result.code == 2, result.err
    assert told.format(root=corpus.root) in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert "Traceback" not in result.err


def test_an_index_of_another_model_is_refused(corpus: Corpus) -> None:
    corpus.run()
    before = corpus.records()
    result = corpus.run(text_model="stand-in:32")
    assert result.code == 2
    assert "stand-in:16" in result.err and "stand-in:32" in result.err
    assert corpus.records().keys() == before.keys()


def test_an_index_that_vanished_is_noticed(corpus: Corpus) -> None:
    corpus.run()
    os.rename(corpus.root / "db", corpus.root / "db-away")
    result = corpus.run()
    assert result.code == 2
    assert "is gone" in result.err
    assert "engine.verify" in result.err
    os.rename(corpus.root / "db-away", corpus.root / "db")
    assert corpus.run().files["unchanged"] == 14
