"""One task on a real SLURM that has not set RequeueExit: what the engine reads there, and how it goes on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch

from engine.runtime.ledger.store import Ledger
from tests.cluster import Cluster, cluster
from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until
from tests.integration.test_run import PROSE
from tests.servers import free_port

#: Runs the engine by a clock that jumps, once the file `late` is there, to the moment at which a run in a job
#: that ends then is to stop.
LATE = """
import sys, time
from pathlib import Path
from engine.runtime.limits import stop
late, ends_at = Path(sys.argv[1]), float(sys.argv[2])
jump = []

class Clock:
    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def time():
        if not jump and late.exists():
            jump.append(ends_at - 1 - stop.TIME_LIMIT_SPARE_S - time.time())
        return time.time() + sum(jump)

stop.time = Clock
from engine.run import main
sys.exit(main(sys.argv[3:]))
"""

#: Tells what the engine reads in a job.
PROBE = """
import json, os, time
from engine.machine.cores import cores, default_workers
from engine.runtime.limits.memory_plan import limit_of
from engine.machine import batch_job as job
left = job.ends_at(os.environ)
print(json.dumps({
    "name": job.name(os.environ), "place": job.place(os.environ), "cores": cores(),
    "workers": default_workers(), "memory": limit_of(None, os.environ).size,
    "left": None if left is None else left - time.time(),
}))
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A cluster that requeues nothing for its exit code."""
    with cluster("--no-requeue-exit") as started:
        yield started


def ended(slurm: Cluster, job: str) -> bool:
    return slurm.job(job, "JobState") not in ("PENDING", "RUNNING", "COMPLETING")


def starts(corpus: Corpus) -> int:
    """How often a run has begun in the corpus's run directory."""
    ledger = Ledger(corpus.run_dir)
    found = int(ledger.get("run") or 0)
    ledger.close()
    return found


def undisturbed(corpus: Corpus) -> dict[str, dict[str, object]]:
    """The records of one run of the same files."""
    other = Corpus.__new__(Corpus)
    other.root, other.files = corpus.root / "undisturbed", corpus.files
    assert other.run("--no-images").code == 0
    return other.records()


def slow(corpus: Corpus, rate: int = 1000) -> str:
    """A script whose run takes some seconds, 400 files of some 20 tokens at that rate, in several windows."""
    for number in range(400):
        corpus.write(f"{number}.txt", f"Note {number}. " + PROSE)
    # What is in flight takes longer than a drain may, so that there is something left to go on with.
    words = ["--bulk-bytes", "512", "--no-dedupe", "--no-images", "--workers", "1", "--quiet", "--grace", "1"]
    return f"exec {shlex.join(corpus.command(*words, text_model=f'stand-in:16@{rate}'))}"


def test_the_engine_reads_its_job(slurm: Cluster, tmp_path: Path) -> None:
    tell = f"exec {shlex.join([sys.executable, '-c', PROBE])}"
    output = f"--output={tmp_path}/%a.json"
    slurm.batch(tell, output, "--array=3-4", "--cpus-per-task=1", "--mem=300", "--time=5")
    wait_until(lambda: not slurm.queue("-o", "%i"))
    for number in (3, 4):
        told = json.loads((tmp_path / f"{number}.json").read_text())
        assert told["name"].endswith(f"_{number}")
        assert told["place"] == [number - 3, 2]
        assert (told["cores"], told["workers"]) == (1, 1)
        assert told["memory"] == int(0.9 * 300 * 2**20)
        assert 200 < told["left"] <= 301
    slurm.batch(tell, output, "--array=7,9", "--mem=0")
    wait_until(lambda: not slurm.queue("-o", "%i"))
    told = json.loads((tmp_path / "7.json").read_text())
    assert told["place"] is None
    # Where there is no limit, SLURM says a year, or nothing yet.
    assert told["left"] is None or told["left"] > 300 * 24 * 3600


def test_a_task_that_must_stop_asks_to_be_run_again_and_goes_on(slurm: Cluster, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    job = slurm.batch(slow(corpus), f"--output={tmp_path}/log", "--open-mode=append", "--requeue")
    wait_until((corpus.run_dir / "status.json").exists)
    wait_until(lambda: json.loads((corpus.run_dir / "status.json").read_text())["chunks"]["indexed"] > 3)
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    wait_until(lambda: ended(slurm, job))
    log = (tmp_path / "log").read_text()
    assert slurm.job(job, "JobState") == "COMPLETED", log
    assert slurm.job(job, "Restarts") == "1"
    assert "longer than --grace 1 s; run the same command again to continue" in log
    assert f"job {job} is back in the queue" in log
    assert starts(corpus) == 2
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert 0 < summary["files"]["indexed"] < 400
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_task_that_is_cancelled_is_not_run_again(slurm: Cluster, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    job = slurm.batch(slow(corpus), f"--output={tmp_path}/log", "--requeue")
    wait_until((corpus.run_dir / "status.json").exists)
    slurm.call("scancel", job)
    wait_until(lambda: ended(slurm, job))
    assert slurm.job(job, "JobState") == "CANCELLED"
    log = (tmp_path / "log").read_text()
    assert "stopped: " in log
    assert "back in the queue" not in log


def test_a_script_that_goes_on_after_the_engine_is_left_alone(slurm: Cluster, tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    script = f"{slow(corpus).removeprefix('exec ')} --database-deadline 0.5"
    script = script.replace(corpus.url, f"elasticsearch://127.0.0.1:{free_port()}/nowhere")
    job = slurm.batch(f"{script}; echo exit code $?", f"--output={tmp_path}/log", "--requeue")
    wait_until(lambda: ended(slurm, job))
    assert slurm.job(job, "JobState") == "COMPLETED"
    log = (tmp_path / "log").read_text()
    assert "exit code 75" in log
    assert "back in the queue" not in log


# What needs no cluster


def job_of(**values: str) -> dict[str, str]:
    """The environment of a job that SLURM doesn't know."""
    return os.environ | {"SLURM_JOB_ID": "1", "PATH": "/usr/bin:/bin"} | values


def test_a_run_stops_before_the_time_limit_of_its_job_and_says_so(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    late, ends_at = tmp_path / "late", int(time.time()) + 24 * 3600
    command = shlex.split(slow(corpus, 200).removeprefix("exec "))
    assert command[1:3] == ["-m", "engine.run"]
    command[1:3] = ["-c", LATE, str(late), str(ends_at)]
    environment = job_of(SLURM_JOB_END_TIME=str(ends_at))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        status = corpus.run_dir / "status.json"
        wait_until(lambda: status.exists() and json.loads(status.read_text())["chunks"]["indexed"] > 3)
        late.touch()
        _, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 75, err
    assert "stopped: near the time limit of its job; " in err
    assert "the job's time limit is near: stopping" in (corpus.run_dir / "run.log").read_text()
    assert json.loads((corpus.run_dir / "summary.json").read_text())["status"] == "stopped"
    assert corpus.run("--no-images").code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_database_that_is_down_when_a_task_starts_is_waited_for(
    tmp_path: Path, elasticsearch_url: str
) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("note.txt", "a note")
    server, port, index = elasticsearch_url.rpartition("//")[2], free_port(), f"down-{uuid.uuid4().hex[:12]}"
    url = f"elasticsearch://127.0.0.1:{port}/{index}"
    run = subprocess.Popen(
        corpus.command("--quiet", url=url), env=job_of(), stderr=subprocess.PIPE, text=True
    )
    status = corpus.run_dir / "status.json"
    wait_until(lambda: status.exists() and json.loads(status.read_text())["database"])
    assert run.poll() is None
    with Relay(port, server):
        _, err = run.communicate(timeout=HANG_S)
        assert run.returncode == 0, err
        assert len(corpus.records(url)) == 1
    with Elasticsearch(f"http://{server}") as client:
        client.indices.delete(index=f"{index}-000001", ignore_unavailable=True)


def test_a_task_that_waits_for_its_database_ends_resumable_when_it_is_asked_to(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("note.txt", "a note")
    url = f"elasticsearch://127.0.0.1:{free_port()}/nowhere"
    run = subprocess.Popen(
        corpus.command("--quiet", url=url), env=job_of(), stderr=subprocess.PIPE, text=True
    )
    status = corpus.run_dir / "status.json"
    wait_until(lambda: status.exists() and json.loads(status.read_text())["database"])
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=HANG_S)
    assert run.returncode == 75, err
    assert "stopped: by a signal" in err


class Relay:
    """Passes connections to a port on to a server, while the block lasts."""

    def __init__(self, port: int, server: str) -> None:
        host, _, number = server.rpartition(":")
        self._there = (host, int(number))
        self._listener = socket.create_server(("127.0.0.1", port))
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the block has ended
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._there)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
