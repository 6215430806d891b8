"""Several tasks over one manifest: shards, leases, a task that is killed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

import adapters
from engine.fleet.manifest import read
from tests.integration.runs import HANG_S, Corpus, kill_group, same_vectors, wait_until

#: Seconds of silence after which a task of these tests loses its leases.
TTL = "3"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Forty texts, some of several segments' length, one file hidden and one of an unknown type."""
    made = Corpus(tmp_path)
    for number in range(40):
        made.write(f"{number % 4}/{number}.txt", f"Text {number} of this corpus. " * (3 + 40 * (number % 7)))
    made.write(".hidden.txt", "hidden")
    (made.files / "noise.bin").write_bytes(bytes(range(256)) * 8)
    return made


def plan(corpus: Corpus, *options: str, shards: int = 3) -> subprocess.CompletedProcess[str]:
    """`engine.plan` over the corpus, without a calibration unless asked for."""
    return subprocess.run(
        [
            sys.executable, "-m", "engine.plan", str(corpus.files), "--shards", str(shards), "--run-dir",
            str(corpus.run_dir), "--text-model", "stand-in:16", "--image-model", "stand-in:8",
            *(options or ("--calibrate-seconds", "0")),
        ],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip


def manifest(corpus: Corpus) -> Path:
    """Where the plan lies."""
    return corpus.run_dir / "manifest.jsonl.gz"


def command(corpus: Corpus, task: int, *options: str, rate: str = "") -> list[str]:
    """One of three tasks, with a database of its own: LanceDB has one writer."""
    return [
        sys.executable, "-m", "engine.run", "--manifest", str(manifest(corpus)), "--shard", f"{task}/3",
        "--adapter", f"lancedb://{corpus.root}/db{task}", "--run-dir", str(corpus.run_dir), "--text-model",
        f"stand-in:16{rate}", "--image-model", "stand-in:8", "--quiet", *options,
    ]  # fmt: skip


def finish(process: psutil.Popen) -> int:
    """The exit code."""
    return int(process.wait(HANG_S))


def start(corpus: Corpus, task: int, *options: str, rate: str = "") -> psutil.Popen:
    """A task in a process group of its own."""
    return psutil.Popen(command(corpus, task, *options, rate=rate), start_new_session=True)


def indexed(folder: Path) -> int:
    """The records that a task at work has written so far; fails where it is over already."""
    assert not (folder / "summary.json").exists(), "it was over before it could be killed"
    try:
        return int(json.loads((folder / "status.json").read_text())["chunks"]["indexed"])
    except FileNotFoundError:
        return 0


def all_records(corpus: Corpus) -> tuple[dict[str, dict[str, object]], Counter[str]]:
    """The union of the three databases, and how many of them hold each id; none may hold one twice."""
    union: dict[str, dict[str, object]] = {}
    times: Counter[str] = Counter()
    for task in range(3):
        found = corpus.records(f"lancedb://{corpus.root}/db{task}")
        union |= found
        times.update(found.keys())
    return union, times


def summary(corpus: Corpus, task: int) -> dict[str, Any]:
    """Of the task's last invocation."""
    path = corpus.run_dir / "shards" / f"{task}-of-3" / "summary.json"
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def single_run(corpus: Corpus) -> dict[str, dict[str, object]]:
    """The records of one run over the whole corpus."""
    url = f"lancedb://{corpus.root}/single"
    alone = corpus.command("--run-dir", str(corpus.root / "alone"), "--quiet", url=url)
    assert subprocess.run(alone, check=False, timeout=HANG_S).returncode == 0
    return corpus.records(url)


def test_shards_of_a_manifest_make_what_one_run_makes_and_list_nothing(corpus: Corpus) -> None:
    assert plan(corpus).returncode == 0
    corpus.write("0/late.txt", "it came after the listing")
    gone, changed = corpus.files / "1" / "1.txt", corpus.files / "2" / "2.txt"
    gone.unlink()
    changed.write_text("It says something else now.")
    codes = sorted(subprocess.run(command(corpus, task), check=False).returncode for task in range(3))
    assert codes == [0, 0, 3]
    (corpus.files / "0" / "late.txt").unlink()
    union, times = all_records(corpus)
    assert same_vectors(union, single_run(corpus)) and set(times.values()) == {1}
    files = Counter[str]()
    for task in range(3):
        files.update(summary(corpus, task)["files"])
    assert {name: count for name, count in files.items() if count} == {
        "discovered": 42, "indexed": 39, "skipped": 2, "failed": 1,
    }  # fmt: skip
    failures = [
        json.loads(line)
        for path in corpus.run_dir.glob("shards/*/failures.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert [(one["source"], one["error_type"]) for one in failures] == [(str(gone), "unreadable")]


def test_a_task_that_is_killed_is_made_up_for_by_the_others(corpus: Corpus) -> None:
    assert plan(corpus).returncode == 0
    options = ("--lease", "--lease-ttl", TTL, "--bulk-bytes", "512", "--no-dedupe")
    tasks = [start(corpus, task, *options, rate="@1000") for task in range(3)]
    try:
        ledger = corpus.run_dir / "shards" / "0-of-3"
        wait_until(lambda: indexed(ledger) > 0)
        kill_group(tasks[0].pid)
        assert finish(tasks[0]) == -9
        assert [finish(task) for task in tasks[1:]] == [0, 0]
    finally:
        for task in tasks:
            kill_group(task.pid)
    union, _ = all_records(corpus)
    assert same_vectors(union, single_run(corpus))
    names = [path.name for path in corpus.run_dir.glob("leases/*/*/*")]
    assert names and all(name.endswith(".done") for name in names)
    # The killed one comes back to find nothing left to do.
    assert subprocess.run(command(corpus, 0, *options), check=False, timeout=HANG_S).returncode == 0
    assert summary(corpus, 0)["files"]["indexed"] == 0


def test_a_requeued_task_goes_on_with_its_own_leases_from_its_own_ledger(corpus: Corpus) -> None:
    assert plan(corpus).returncode == 0
    options = ("--lease", "--bulk-bytes", "512", "--no-dedupe")
    task = start(corpus, 0, *options, rate="@1000")
    folder = corpus.run_dir / "shards" / "0-of-3"
    try:
        wait_until(lambda: indexed(folder) > 0)
        kill_group(task.pid)
        finish(task)
    finally:
        kill_group(task.pid)
    # The default time to live is longer than this test: nobody could have taken anything over.
    assert subprocess.run(command(corpus, 0, *options), check=False, timeout=HANG_S).returncode == 0
    assert same_vectors(corpus.records(f"lancedb://{corpus.root}/db0"), single_run(corpus))
    names = [path.name for path in corpus.run_dir.glob("leases/*/*/*")]
    assert names and all(name.endswith(".done") for name in names)


def test_a_file_that_changed_hands_may_be_in_the_database_already(corpus: Corpus) -> None:
    """The first holder dies with its ledger; the second one writes into the same database."""
    assert plan(corpus).returncode == 0
    options = ["--lease", "--lease-ttl", TTL, "--bulk-bytes", "512", "--no-dedupe"]
    url = f"lancedb://{corpus.root}/db"
    first = start(corpus, 0, *options, "--adapter", url, rate="@1000")
    folder = corpus.run_dir / "shards" / "0-of-3"
    try:
        wait_until(lambda: indexed(folder) > 0)
    finally:
        kill_group(first.pid)
        finish(first)
    assert adapters.connect(url).count() > 0
    second = [*command(corpus, 1, *options), "--adapter", url]
    assert subprocess.run(second, check=False, timeout=HANG_S).returncode == 0
    assert same_vectors(corpus.records(url), single_run(corpus))  # fails where an id is there twice


def test_another_number_of_shards_or_other_inputs_are_refused(corpus: Corpus) -> None:
    assert corpus.run("--shard", "0/3", "--limit", "1").code == 0
    other = corpus.run("--shard", "0/4")
    assert other.code == 2 and "3 shards" in other.err and "not with 4" in other.err
    assert corpus.run().code == 2
    (corpus.root / "more").mkdir()
    more = corpus.run(str(corpus.root / "more"), "--shard", "1/3")
    assert more.code == 2 and str(corpus.root / "more") in more.err and "Traceback" not in more.err
    assert plan(corpus).returncode == 0
    planned = subprocess.run(command(corpus, 1), capture_output=True, text=True, check=False)
    assert planned.returncode == 2 and "manifest" in planned.stderr


def test_a_fleet_that_has_begun_keeps_its_plan(corpus: Corpus) -> None:
    assert plan(corpus).returncode == 0
    table = manifest(corpus).with_name("manifest.jsonl.gz.plan.json")
    before = table.read_bytes()
    assert subprocess.run(command(corpus, 0), check=False).returncode == 0
    corpus.write("new.txt", "a new file")
    again = plan(corpus)
    assert again.returncode == 0 and "listed before" in again.stderr and table.read_bytes() == before
    for options, reason in ((("--shards", "4"), "--shards 4"), (("--relist",), "--relist")):
        refused = plan(corpus, *options)
        assert refused.returncode == 2 and reason in refused.stderr and "has begun" in refused.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--shard", "0/4"], "cut into 3 shards"),
        (["--prune"], "--prune can't go with --manifest"),
        (["--include", "*.md"], "--include: "),
        (["/elsewhere"], "INPUT: "),
        (["--manifest", "/nowhere"], "manifest /nowhere: no such file"),
    ],
)
def test_what_does_not_fit_the_manifest_is_one_clear_line(
    corpus: Corpus, options: list[str], reason: str
) -> None:
    assert plan(corpus).returncode == 0
    done = subprocess.run([*command(corpus, 0), *options], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert reason in done.stderr


def test_leases_without_a_manifest_are_refused(corpus: Corpus) -> None:
    done = corpus.run("--lease")
    assert done.code == 2 and "--manifest" in done.err


def test_a_dry_run_tells_of_the_shard_alone(corpus: Corpus) -> None:
    assert plan(corpus).returncode == 0
    found = 0
    for task in range(3):
        done = subprocess.run(
            [*command(corpus, task), "--dry-run"], capture_output=True, text=True, check=False
        )
        found += int(done.stdout.split()[2])
    assert found == 42


def test_the_calibration_foretells_tokens_records_and_time(corpus: Corpus) -> None:
    done = plan(corpus, "--calibrate-seconds", "20", "--json", shards=2)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    real = corpus.run("--run-dir", str(corpus.root / "alone"), url=f"lancedb://{corpus.root}/single")
    counts = json.loads((corpus.root / "alone" / "summary.json").read_text())
    assert real.code == 0
    # The sample is the whole corpus.
    assert told["tokens"] == pytest.approx(counts["tokens"], rel=0.01)
    assert told["records"] == counts["totals"]["records"]
    assert told["work_s"] > 0 and told["memory"]["plan"]["workers"] >= 1
    assert told["files"] == len([line for line in read(manifest(corpus)) if hasattr(line.found, "path")])
