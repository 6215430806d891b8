"""A fleet on a real SLURM of three nodes: preempted, out of time, a node lost; and one index in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from engine.runtime.ledger.store import Ledger
from engine.sources.base import shard_of
from tests.cluster import Cluster, cluster
from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE

#: Tasks of the large fleet, and the one that will be out of time.
TASKS, LATE = 8, 4

#: Files of each task, and of that one, which has to be at work for longer than SLURM takes to look at its
#: time; and lines in each file, for which the model takes four seconds.
FILES, LINES = (3, 11), 460

#: Of this checkout, and not of another one that may be installed.
MERGE = Path(__file__).parents[2] / "engine" / "merge.py"

needs_merge = pytest.mark.skipif(not MERGE.exists(), reason="engine.merge is not here yet")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A cluster that requeues what ends with exit code 75."""
    with cluster("--nodes", "3") as started:
        yield started


@pytest.fixture(autouse=True)
def emptied(slurm: Cluster) -> Iterator[None]:
    """No test meets another's jobs."""
    yield
    slurm.clear()
    wait_until(lambda: not slurm.queue("-o", "%i"))


@pytest.fixture
def url(elasticsearch_url: str) -> Iterator[str]:
    """An index of the test's own."""
    index = f"slurm-{uuid.uuid4().hex[:12]}"
    yield f"{elasticsearch_url}/{index}"
    with Elasticsearch(elasticsearch_url.replace("elasticsearch://", "http://")) as client:
        client.indices.delete(index=f"{index}-000001", ignore_unavailable=True)


def words(*options: str) -> list[str]:
    return [sys.executable, "-m", "engine.slurm", *options]


def told(slurm: Cluster, *options: str, code: int = 0) -> str:
    """What an `engine.slurm` command prints that must exit so."""
    done = subprocess.run(
        words(*options), env=slurm.environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def options_of(corpus: Corpus, tasks: int, url: str | None = None) -> list[str]:
    """A fleet over the corpus, with models that take their time."""
    return [
        str(corpus.files), "--adapter", url or corpus.url, "--tasks", str(tasks),
        "--run-dir", str(corpus.run_dir), "--text-model", "stand-in:16@1500", "--no-images", "--no-dedupe",
        "--workers", "1", "--bulk-bytes", "512", "--grace", "1",
    ]  # fmt: skip


def undisturbed(corpus: Corpus) -> dict[str, dict[str, object]]:
    """The records of one run of the same files."""
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "undisturbed", corpus.files
    assert other.run("--no-images").code == 0
    return other.records()


def starts(corpus: Corpus, task: str) -> int:
    """How often a task has begun."""
    ledger = Ledger(corpus.run_dir / "shards" / f"{task}-of-{TASKS}")
    found = int(ledger.get("run") or 0)
    ledger.close()
    return found


def current_item(corpus: Corpus, task: str) -> bool:
    """Whether a task has written something."""
    try:
        text = (corpus.run_dir / "shards" / f"{task}-of-{TASKS}" / "status.json").read_text()
    except FileNotFoundError:
        return False
    return bool(json.loads(text)["chunks"]["indexed"])


def disturb(slurm: Cluster, corpus: Corpus) -> list[str]:
    """Have two tasks preempted, two lost with their node, and one out of time; their numbers, once it has."""
    wait_until(lambda: len(slurm.queue("-t", "RUNNING", "-o", "%i")) == 6)
    order = json.loads((corpus.run_dir / "slurm.json").read_text())["order"]
    running = {
        node: [str(order[int(place)]) for place in slurm.queue("-t", "RUNNING", "-w", node, "-o", "%K")]
        for node in ("n1", "n2", "n3")
    }
    assert order[0] == LATE  # it has the most bytes
    preempting, lost = (node for node, tasks in running.items() if str(LATE) not in tasks)
    first, second = running[preempting], running[lost]
    late = f"{order.index(LATE)}"
    wait_until(lambda: all(current_item(corpus, task) for task in [*first, *second]))
    # A job of higher priority takes one node; another node is lost with its jobs; on the third, the time of
    # one is up.
    slurm.batch("sleep 2", "-p", "high", "-w", preempting, "-c", "4", "-o", "/dev/null")
    slurm.node("kill", lost)
    (array,) = {job.partition("_")[0] for job in slurm.queue("-p", "low", "-n", "engine", "-o", "%i")}
    slurm.call("scontrol", "update", f"JobId={array}_{late}", "TimeLimit=1")
    wait_until(lambda: not slurm.queue("-t", "RUNNING", "-p", "low", "-w", lost, "-o", "%i"))
    slurm.node("start", lost)
    log = corpus.run_dir / "shards" / f"{LATE}-of-{TASKS}" / "run.log"
    wait_until(lambda: log.exists() and "SIGUSR1: stopping" in log.read_text())
    slurm.call("scontrol", "update", f"JobId={array}_{late}", "TimeLimit=UNLIMITED")
    return [*first, *second, str(LATE)]


@needs_merge
def test_a_fleet_whose_tasks_are_preempted_lost_and_out_of_time_makes_the_index_of_one_run(
    slurm: Cluster, tmp_path: Path, url: str
) -> None:
    corpus = Corpus(tmp_path)
    names = (f"{number}.txt" for number in count())
    mine: dict[int, list[Path]] = {task: [] for task in range(TASKS)}
    while any(len(taken) < FILES[task == LATE] for task, taken in mine.items()):
        name = next(names)
        task = shard_of(str(corpus.files / name), TASKS)
        if len(mine[task]) < FILES[task == LATE]:
            mine[task].append(corpus.write(name, f"{name}. " + PROSE * LINES))
    wanted = [*options_of(corpus, TASKS, url), "--concurrent", "6", "--cpus-per-task", "2"]
    said = tmp_path / "said"
    command = words("submit", *wanted, "--wait")
    with (
        open(said, "w") as file,
        subprocess.Popen(command, env=slurm.environment, stdout=file, stderr=file) as waiting,
    ):
        try:
            disturbed = disturb(slurm, corpus)
            assert waiting.wait(HANG_S) == 0, said.read_text()
        finally:
            waiting.kill()
    began = {task: starts(corpus, task) for task in disturbed}
    assert len(began) == 5
    assert all(times >= 2 for times in began.values()), began
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["files"]["indexed"]) == ("complete", sum(map(len, mine.values())))
    records = corpus.records(url)
    assert summary["totals"]["records"] == len(records)
    assert same_vectors(records, undisturbed(corpus))
    standing = json.loads(told(slurm, "status", "--run-dir", str(corpus.run_dir), "--json"))
    assert {task["state"] for task in standing["tasks"]} == {"complete"}
    assert sum(task["records"] for task in standing["tasks"]) == len(records)


@needs_merge
def test_a_fleet_is_cancelled_resumed_and_then_has_nothing_left_to_do(slurm: Cluster, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(6):
        corpus.write(f"{number}.txt", f"Note {number}. " + PROSE * 60)
    where, wanted = ["--run-dir", str(corpus.run_dir)], options_of(corpus, 2)
    told(slurm, "submit", *wanted)
    wait_until(lambda: len(list(corpus.run_dir.glob("shards/*/status.json"))) == 2)
    for command in (["submit", *wanted], ["resume", *where]):
        assert "are in the queue" in told(slurm, *command, code=2)
    assert "running" in told(slurm, "status", *where)
    told(slurm, "cancel", *where)
    wait_until(lambda: not slurm.queue("-o", "%i"))
    assert not (corpus.run_dir / "summary.json").exists()
    assert "complete after" in told(slurm, "resume", *where, "--wait")
    assert same_vectors(corpus.records(), undisturbed(corpus))
    again = told(slurm, "resume", *where, "--wait")
    assert again.startswith("submitted the finishing job")
    assert not slurm.queue("-o", "%i")
    corpus.write("broken.pdf", "%PDF-1.7 not really")
    assert "1 failed" in told(slurm, "submit", *wanted, "--wait", code=3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--tasks", "0"], "at least 1"),
        (["--tasks", "20000"], "at most 10001 tasks (MaxArraySize)"),
        (["--partition", "nowhere"], "invalid partition"),
        (["--chunk-size", "many"], "--chunk-size"),
        (["--frobnicate"], "--frobnicate"),
        (["--shard", "0/2"], "--shard: not an option for the tasks of a fleet"),
        (["--files-from", "-"], "--files-from -: tasks have no standard input"),
        (["--", "--frobnicate=1"], "frobnicate"),
        (["--", "--mem=1T"], "Memory specification can not be satisfied"),
        (["--", "--comment=a\nb"], "can't stand in a job script"),
    ],
)
def test_what_cannot_be_submitted_is_told_in_one_line(
    slurm: Cluster, tmp_path: Path, options: list[str], expected: str
) -> None:
    corpus = Corpus(tmp_path)
    refused = told(slurm, "submit", *options_of(corpus, 2), *options, code=2)
    assert expected in refused
    assert refused.count("\n") == 1
    assert slurm.queue("-o", "%i") == []


def test_a_run_directory_keeps_to_the_fleet_that_it_was_given(slurm: Cluster, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    wanted = options_of(corpus, 2)
    told(slurm, "submit", *wanted, "--", "--hold")
    job = slurm.queue("-n", "engine", "-o", "%F")[0]
    script = (corpus.run_dir / "job.sbatch").read_text()
    assert f"--run-dir {corpus.run_dir}" in script
    told(slurm, "cancel", "--run-dir", str(corpus.run_dir))
    assert slurm.job(job, "JobState") == "CANCELLED"
    (tmp_path / "more").mkdir()
    for other in (
        ["--tasks", "3"],
        ["--chunk-size", "64"],
        [str(tmp_path / "more")],
        ["--adapter", "lancedb://x"],
    ):
        assert "its fleet was submitted with" in told(slurm, "submit", *wanted, *other, code=2)
