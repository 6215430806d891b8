"""Fleets on a real SLURM of two nodes: preempted, killed, out of time; and one index in the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from elasticsearch import Elasticsearch

from engine.runtime.ledger import Ledger
from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm"

#: Tasks of the large fleet, and seconds that each task may drain.
TASKS, GRACE_S = 8, 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cluster of two nodes, to which this process's commands go."""
    folder = tmp_path_factory.mktemp("slurm")
    done = subprocess.run(
        [str(SCRIPT), "start", "--folder", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        assert not os.environ.get("CI"), done.stderr
        pytest.skip(done.stderr.strip())
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
    yield folder
    if before is None:
        del os.environ["SLURM_CONF"]
    else:
        os.environ["SLURM_CONF"] = before
    subprocess.run([str(SCRIPT), "stop", "--folder", str(folder)], check=True, capture_output=True)


@pytest.fixture
def url(elasticsearch_url: str) -> Iterator[str]:
    """An index of the test's own."""
    index = f"slurm-{uuid.uuid4().hex[:12]}"
    yield f"{elasticsearch_url}/{index}"
    with Elasticsearch(elasticsearch_url.replace("elasticsearch://", "http://")) as client:
        client.indices.delete(index=f"{index}-000001", ignore_unavailable=True)


def slurm(*words: str) -> list[str]:
    return [sys.executable, "-m", "engine.slurm", *words]


def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """An `engine.slurm` command that must exit so."""
    done = subprocess.run(slurm(*words), capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def queue(*options: str) -> list[str]:
    """Lines of squeue."""
    done = subprocess.run(["squeue", "-h", "-r", *options], capture_output=True, text=True, check=True)
    return done.stdout.split()


def invocations(run_dir: Path, task: int) -> int:
    """How often a task has begun."""
    folder = run_dir / "shards" / f"{task}-of-{TASKS}"
    if not (folder / "ledger.sqlite").exists():
        return 0
    ledger = Ledger(folder)
    found = int(ledger.get("run") or 0)
    ledger.close()
    return found


def alone(corpus: Corpus) -> dict[str, dict[str, object]]:
    """The records of one undisturbed run."""
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "once", corpus.files
    assert other.run("--no-images").code == 0
    return other.records()


def test_a_fleet_that_is_preempted_and_loses_a_node_makes_the_index_of_one_run(
    cluster: Path, tmp_path: Path, url: str
) -> None:
    corpus = Corpus(tmp_path)
    for number in range(64):
        corpus.write(f"{number}.txt", f"Note {number}. " + PROSE * 20)
    words = [
        str(corpus.files), "--adapter", url, "--tasks", str(TASKS), "--run-dir", str(corpus.run_dir),
        "--concurrent", "4", "--cpus-per-task", "2", "--partition", "low", "--text-model", "stand-in:16@1500",
        "--no-dedupe", "--no-images", "--workers", "1", "--bulk-bytes", "512", "--grace", str(GRACE_S),
    ]  # fmt: skip
    waiting = psutil.Popen(
        slurm("submit", *words, "--wait"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(lambda: len(queue("-t", "RUNNING", "-w", "n1", "-o", "%i")) == 2)
    on_second = queue("-t", "RUNNING", "-w", "n2", "-o", "%K")
    preempted = queue("-t", "RUNNING", "-w", "n1", "-o", "%K")
    for task in [*preempted, *on_second]:
        status = corpus.run_dir / "shards" / f"{task}-of-{TASKS}" / "status.json"
        wait_until(status.exists)
    # Whoever has the right to goes first: the whole first node.
    subprocess.run(
        ["sbatch", "-p", "high", "-w", "n1", "-c", "4", "-o", "/dev/null", "--wrap", "sleep 3"],
        check=True, capture_output=True,
    )  # fmt: skip
    # And the second one is lost, with all that runs on it.
    subprocess.run([str(SCRIPT), "node", "kill", "n2", "--folder", str(cluster)], check=True)
    wait_until(lambda: len(queue("-t", "RUNNING", "-w", "n2", "-o", "%i")) == 0)
    subprocess.run([str(SCRIPT), "node", "start", "n2", "--folder", str(cluster)], check=True)
    said, _ = waiting.communicate(timeout=HANG_S)
    assert waiting.returncode == 0, said
    assert "ledger and database agree" in said
    began = {task: invocations(corpus.run_dir, int(task)) for task in [*preempted, *on_second]}
    assert len(began) == 4
    assert all(times >= 2 for times in began.values()), began
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    records = corpus.records(url)
    assert summary["files"]["indexed"] == 64
    assert summary["totals"]["records"] == len(records)
    assert same_vectors(records, alone(corpus))
    told = json.loads(run("status", "--run-dir", str(corpus.run_dir), "--json").stdout)
    assert {task["state"] for task in told["tasks"]} == {"complete"}


def test_a_task_out_of_time_goes_on_and_what_is_lost_is_submitted_again(
    cluster: Path, tmp_path: Path
) -> None:
    corpus = Corpus(tmp_path)
    for number in range(6):
        corpus.write(f"{number}.txt", f"Note {number}. " + PROSE * 60)
    words = [
        str(corpus.files), "--adapter", corpus.url, "--tasks", "2", "--run-dir", str(corpus.run_dir),
        "--text-model", "stand-in:16@400", "--no-dedupe", "--no-images", "--bulk-bytes", "512",
        "--grace", str(GRACE_S),
    ]  # fmt: skip
    # SLURM gives its signal up to a minute too early: with this limit at once, or soon.
    run("submit", *words, "--time", "1", "--", "--signal=B:USR1@50")
    shards = [corpus.run_dir / "shards" / f"{task}-of-2" for task in range(2)]
    log = shards[0] / "run.log"
    wait_until(lambda: log.exists() and re.search("SIGUSR1|time limit", log.read_text()))
    refused = run("submit", *words, code=2)
    assert "in the queue" in refused.stderr
    run("cancel", "--run-dir", str(corpus.run_dir))
    wait_until(lambda: not queue("-o", "%i"))
    told = run("resume", "--run-dir", str(corpus.run_dir), "--wait")
    assert "complete after" in told.stdout
    assert same_vectors(corpus.records(), alone(corpus))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--tasks", "0"], "at least 1"),
        (["--tasks", "20000"], "at most 10001 tasks (MaxArraySize)"),
        (["--tasks", "2", "--partition", "nowhere"], "invalid partition"),
        (["--tasks", "2", "--chunk-size", "many"], "--chunk-size"),
        (["--tasks", "2", "--frobnicate"], "--frobnicate"),
        (["--tasks", "2", "--", "--frobnicate=1"], "frobnicate"),
    ],
)
def test_what_cannot_be_submitted_is_told_in_one_line(
    cluster: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    corpus = Corpus(tmp_path)
    words = [
        str(corpus.files),
        "--adapter",
        corpus.url,
        "--run-dir",
        str(corpus.run_dir),
        "--text-model",
        "stand-in:16",
    ]
    refused = run("submit", *words, *options, code=2)
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert queue("-o", "%i") == []


def test_a_dry_run_prints_scripts_that_another_submission_must_fit(cluster: Path, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", PROSE)
    words = ["--adapter", corpus.url, "--run-dir", str(corpus.run_dir), "--text-model", "stand-in:16"]
    printed = run("submit", str(corpus.files), *words, "--tasks", "2", "--dry-run", "--mem", "2G").stdout
    assert "#SBATCH --mem=2G" in printed
    assert "#SBATCH --signal=B:USR1@" in printed
    assert not corpus.run_dir.exists()
    run("submit", str(corpus.files), *words, "--tasks", "2")
    run("cancel", "--run-dir", str(corpus.run_dir))
    for other in (["--tasks", "3"], ["--tasks", "2", "--chunk-size", "64"]):
        assert "was submitted with" in run("submit", str(corpus.files), *words, *other, code=2).stderr
    deadline = time.monotonic() + 60
    while queue("-o", "%i") and time.monotonic() < deadline:
        time.sleep(0.2)
