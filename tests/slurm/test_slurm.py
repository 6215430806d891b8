"""Fleets on SLURM as far as no cluster is needed: clients are stand-ins that print what they are told to."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.machine import batch_job as job
from engine.machine.cores import cores
from engine.runtime.ledger.store import Ledger
from engine.slurm import client, commands, fleet, script
from engine.slurm.__main__ import main
from engine.slurm.fleet import Fleet
from engine.slurm.script import Place, Requested
from engine.slurm.states import task_states
from engine.sources.base import shard_of

Clients = Callable[..., Path]


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clients:
    """Makes stand-ins for SLURM's clients, each a shell script; what they were called with is in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("date", "sleep", "touch"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))  # so that no real client is found

    def make(**scripts: str) -> Path:
        for name, text in scripts.items():
            path = folder / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{text}\n')
            path.chmod(0o755)
        return tmp_path / "calls"

    return make


CONFIG = 'echo "KillWait = 30 sec"; echo "MaxArraySize = 1001"; echo "RequeueExit = 75,99-101"'


@pytest.fixture
def submitted(tmp_path: Path, clients: Clients) -> Fleet:
    """A fleet of three tasks, of which nothing is in the queue."""
    clients(scontrol=CONFIG, squeue="", sbatch="echo 41", scancel="")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    assert main(["submit", *words(tmp_path)]) == 0
    found = fleet.load(tmp_path / "run")
    assert found is not None
    return found


def words(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "corpus"), "--adapter", "lancedb://db", "--tasks", "3", "--run-dir",
            str(tmp_path / "run"), "--text-model", "stand-in:4"]  # fmt: skip


def leave(folder: Path, **summary: object) -> None:
    """What a task has left that has begun once."""
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.next_run()
    ledger.commit()
    ledger.close()
    if summary:
        (folder / "summary.json").write_text(json.dumps({"run": 1, **summary}))


# What a job tells


def test_a_job_is_named_as_its_clients_want_it() -> None:
    assert job.name({}) is None
    assert job.name({"SLURM_JOB_ID": "7"}) == "7"
    assert job.name({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}) == "5_2"


def place(*values: int) -> tuple[int, int] | None:
    names = ("ID", "MIN", "MAX", "COUNT")
    return job.place({f"SLURM_ARRAY_TASK_{n}": str(v) for n, v in zip(names, values, strict=False)})


def test_the_place_in_an_array_counts_from_its_first_task_and_needs_one_without_gaps() -> None:
    assert place(5, 3, 6, 4) == (2, 4)
    assert place(0, 0, 0, 1) == (0, 1)
    assert place(9, 7, 9, 2) is None
    assert place(9, 7) is None


def test_shard_auto_is_the_place_in_the_array_and_refused_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from engine.cli.options import parse

    with pytest.raises(UsageError, match=r"--shard: 'auto' is for a task of a SLURM array without gaps"):
        parse([str(tmp_path), "--shard", "auto"])
    for name, value in (("ID", "3"), ("MIN", "2"), ("MAX", "5"), ("COUNT", "4")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert parse([str(tmp_path), "--shard", "auto"]).task.shard == (1, 4)


@pytest.mark.parametrize(
    ("environment", "most"),
    [
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "64"}, 1),
        ({"SLURM_CPUS_ON_NODE": "1"}, 1),
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_NTASKS": "2"}, None),
        ({"SLURM_CPUS_PER_TASK": "100000"}, None),
        ({"SLURM_CPUS_PER_TASK": "0"}, None),
        ({}, None),
    ],
)
def test_cores_are_those_of_the_job_and_never_more_than_there_are(
    environment: dict[str, str], most: int | None
) -> None:
    assert cores(environment) == (most or len(os.sched_getaffinity(0)))


def test_the_end_of_a_job_is_what_the_environment_says_else_what_the_queue_says(clients: Clients) -> None:
    assert job.ends_at({}) is None
    assert job.ends_at({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1700000000"}) == 1_700_000_000
    calls = clients(squeue='[ "$SLURM_TIME_FORMAT" = standard ] && date -d @1700000000 +%Y-%m-%dT%H:%M:%S')
    assert job.ends_at({"SLURM_JOB_ID": "7"}) == 1_700_000_000
    assert calls.read_text() == "squeue -h -j 7 -o %e\n"
    clients(squeue="echo N/A")
    assert job.ends_at({"SLURM_JOB_ID": "7"}) is None
    clients(squeue="exit 1")
    assert job.ends_at({"SLURM_JOB_ID": "7"}) is None


def mine(**more: str) -> dict[str, str]:
    """The environment of a job whose script this process is."""
    return {"SLURM_JOB_ID": "7", "SLURM_TASK_PID": str(os.getpid()), **more}


def test_a_job_is_requeued_only_where_the_cluster_does_not_and_where_it_is_all_that_is_left(
    clients: Clients, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = clients(squeue="echo RUNNING", scontrol='[ "$1" = requeue ] || echo "RequeueExit = (null)"')
    assert not job.requeue({})
    assert not job.requeue({"SLURM_JOB_ID": "7", "SLURM_TASK_PID": "1"})
    assert not calls.exists()
    assert job.requeue(mine())
    assert calls.read_text().endswith("scontrol requeue 7\n")
    assert "job 7 is back in the queue" in capfd.readouterr().err
    assert not job.requeue(mine(SLURM_RESTART_COUNT=str(job.MOST_RESTARTS)))
    assert "has been run again 100 times" in capfd.readouterr().err
    clients(scontrol=CONFIG)
    assert not job.requeue(mine())
    clients(squeue="echo COMPLETING", scontrol='echo "RequeueExit = (null)"')
    assert not job.requeue(mine())
    assert calls.read_text().count("requeue 7") == 1


def test_a_job_that_cannot_be_requeued_says_so(
    clients: Clients, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PAUSE_S", 0)
    calls = clients(squeue="echo RUNNING", scontrol="echo scontrol: error: Unable to contact >&2; exit 1")
    assert not job.requeue(mine())
    assert capfd.readouterr().err == "engine.run: job 7 is not run again: scontrol: Unable to contact\n"
    assert calls.read_text().count("requeue 7") == job.TRIES


# Clients


def test_exit_codes_that_are_requeued_are_read_from_lists_and_ranges(clients: Clients) -> None:
    clients(scontrol=CONFIG)
    assert [job.requeues(code) for code in (75, 98, 99, 100, 101, 102)] == [
        True, False, True, True, True, False,
    ]  # fmt: skip


def test_a_client_that_is_missing_silent_or_refuses_is_told_in_one_line(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(job.SlurmError, match="squeue: not found; run this where SLURM's commands are"):
        job.call("squeue", "-h")
    clients(squeue="sleep 5")
    with pytest.raises(job.SlurmError, match=r"squeue: no answer within 0.1 s"):
        job.call("squeue", deadline_s=0.1)
    clients(squeue="echo squeue: error: first; echo squeue: error: second >&2; exit 3")
    with pytest.raises(job.SlurmError, match=r"^squeue: second$"):
        job.call("squeue")


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("JobState=COMPLETED ExitCode=0:0", 0),
        ("JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0", 3),
        ("JobState=FAILED ExitCode=0:9", 1),
        ("JobState=CANCELLED ExitCode=0:15", 75),
        ("JobState=NODE_FAIL ExitCode=0:0", 75),
        ("something else", None),
    ],
)
def test_how_a_job_ended_is_told_by_its_state_and_code(clients: Clients, told: str, code: int | None) -> None:
    clients(scontrol=f"echo 'JobId=7 {told}'")
    assert client.ended("7") == code


def test_jobs_that_slurm_has_forgotten_are_not_in_the_queue(clients: Clients) -> None:
    clients(squeue="echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
            scontrol="echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")  # fmt: skip
    assert client.queued(["7"]) == {}
    assert client.queued([]) == {}
    assert client.ended("7") is None


# Scripts


@pytest.mark.parametrize(
    ("tasks", "told"), [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 9, 8], "0-1,5,8-9")]
)
def test_tasks_are_told_as_ranges(tasks: list[int], told: str) -> None:
    assert script.ranges(tasks) == told


def test_the_scripts_ask_for_what_was_wished_and_quote_every_name() -> None:
    where = Place(Path("/data/my runs/50%"), Path("/home/me"))
    requested = Requested(4, 2, 8, "1:00:00", "gpu", "20G", ("--account=a b",))
    text = script.tasks_script(where, 10, ["it's here", "--include", "*.md"], requested)
    lines = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--gres=gpu:2", "--cpus-per-task=8", "--time=1:00:00", "--partition=gpu", "--mem=20G",
            "--account=a b", "--requeue", "--signal=B:USR1@90",
            "--output=/data/my runs/50%%/logs/task-%a.log"} <= set(lines)  # fmt: skip
    command = shlex.split(text.splitlines()[-1])
    assert command[:5] == ["exec", sys.executable, "-m", "engine.run", "it's here"]
    assert command[-2:] == ["--shard", "$shard/10"]
    assert "--array=0-9%4" in text
    finish = script.finish_script(where, "lancedb://db", True, requested)
    assert "--gres" not in finish
    assert "--no-requeue" in finish
    assert shlex.split(finish.splitlines()[-1])[2:] == [
        "-m", "engine.merge", "--run-dir", "/data/my runs/50%", "--adapter", "lancedb://db", "--prune",
    ]  # fmt: skip


# Commands


def test_a_submission_is_recorded_with_a_grace_that_fits_the_cluster(
    submitted: Fleet, tmp_path: Path
) -> None:
    calls = (tmp_path / "calls").read_text()
    run = tmp_path / "run"
    assert f"sbatch --parsable --array=0-2 {run}/job.sbatch" in calls
    assert f"sbatch --parsable --dependency=afterany:41 {run}/finish.sbatch" in calls
    assert (submitted.job, submitted.finish, submitted.tasks, submitted.grace) == ("41", "41", 3, 25)
    assert submitted.inputs == (str(tmp_path / "corpus"),)
    assert "--grace 25" in (run / "job.sbatch").read_text()
    assert submitted.folder == os.getcwd()


def test_the_shards_with_the_most_bytes_are_begun_first_and_are_32_for_each_task_at_once(
    tmp_path: Path, clients: Clients
) -> None:
    calls = clients(scontrol=CONFIG, squeue="", sbatch="echo 41", scancel="")
    (tmp_path / "corpus").mkdir()
    large = tmp_path / "corpus" / "large.txt"
    large.write_text("x" * 100_000)
    given = words(tmp_path)
    place = given.index("--tasks")
    given[place : place + 2] = ["--concurrent", "2"]
    assert main(["submit", *given]) == 0
    assert "--array=0-63%2 " in calls.read_text()
    heaviest = shard_of(str(large), 64)
    run = tmp_path / "run"
    assert (run / "order").read_text().split()[0] == str(heaviest)
    known = fleet.load(run)
    assert known is not None
    assert sorted(known.begun) == list(range(64))
    leave(known.shard(heaviest), status="complete", exit_code=0)
    tasks = list(task_states(known, {"41_1": "RUNNING"}))
    assert tasks[heaviest].done
    assert [task.number for task in tasks if task.state == "running"] == [known.begun[1]]
    calls.unlink()
    clients(squeue="")
    assert main(["resume", "--run-dir", str(run)]) == 0
    assert "--array=1-63%2 " in calls.read_text()  # the first place, with the heaviest shard, is done
    assert known.log_of(heaviest).name == "task-0.log"


def test_neither_shards_nor_tasks_at_once_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", str(tmp_path), "--adapter", "lancedb://db"]) == 2
    assert "--tasks: give the number of shards, or --concurrent K" in capsys.readouterr().err


def test_what_is_refused_after_the_array_takes_the_array_out_again(
    tmp_path: Path, clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse = (
        'case "$*" in *finish*) echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1;; esac; echo 41'
    )
    calls = clients(scontrol=CONFIG, squeue="", sbatch=refuse, scancel="")
    (tmp_path / "corpus").mkdir()
    assert main(["submit", *words(tmp_path)]) == 2
    assert capsys.readouterr().err == "engine.slurm: sbatch: QOSMaxSubmitJobPerUserLimit\n"
    assert calls.read_text().endswith("scancel 41\n")


def test_tasks_are_told_apart_by_what_they_have_left(submitted: Fleet) -> None:
    leave(submitted.shard(0), status="complete_with_failures", exit_code=3, totals={"records": 5},
          files={"failed": 1, "partial": 1})  # fmt: skip
    leave(submitted.shard(1))
    told = [(one.state, one.done, one.records, one.failures) for one in task_states(submitted, {})]
    assert told == [
        ("complete_with_failures", True, 5, 2), ("cut off", False, 0, 0), ("not begun", False, 0, 0),
    ]  # fmt: skip
    queue = {"41_1": "RUNNING", "42": "PENDING"}
    assert [one.state for one in task_states(submitted, queue)] == [
        "complete_with_failures", "running", "not begun",
    ]  # fmt: skip


def test_a_summary_of_an_earlier_start_does_not_make_a_task_done(submitted: Fleet) -> None:
    folder = submitted.shard(0)
    leave(folder, status="complete", exit_code=0)
    assert next(task_states(submitted, {})).done
    ledger = Ledger(folder)
    ledger.next_run()
    ledger.commit()
    ledger.close()
    assert next(task_states(submitted, {})).state == "cut off"


def test_a_task_that_never_starts_when_it_is_submitted_again_is_not_done(
    submitted: Fleet, tmp_path: Path
) -> None:
    leave(submitted.shard(0), status="complete", exit_code=0, totals={"records": 3})
    leave(submitted.shard(1), status="stopped", exit_code=75)
    assert [task.done for task in task_states(submitted, {})] == [True, False, False]
    assert main(["submit", *words(tmp_path)]) == 0
    tasks = list(task_states(submitted, {}))
    assert [(task.state, task.done) for task in tasks[:2]] == [("cut off", False)] * 2
    assert tasks[0].records == 3


@pytest.mark.parametrize("narrowed", [["--include", "*.txt"], ["--no-images"], ["--files-from", "list"]])
def test_what_the_finishing_job_could_not_prune_is_refused_before_any_work(
    tmp_path: Path, narrowed: list[str], clients: Clients, capsys: pytest.CaptureFixture[str]
) -> None:
    clients(scontrol=CONFIG, sbatch="echo 41")
    (tmp_path / "corpus").mkdir()
    assert main(["submit", *words(tmp_path), "--prune", *narrowed]) == 2
    assert "--prune: not with --include" in capsys.readouterr().err
    assert main(["submit", *words(tmp_path), "--prune", "--dry-run"]) == 0


def test_resume_submits_what_is_not_done_from_where_and_as_it_was_submitted(
    submitted: Fleet, tmp_path: Path, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(submitted.shard(1), status="complete", exit_code=0)
    before = (tmp_path / "run" / "job.sbatch").read_text()
    calls = clients(sbatch="echo 50")
    calls.unlink()
    monkeypatch.chdir(tmp_path)
    assert main(["resume", "--run-dir", "run"]) == 0
    assert "--array=0,2 " in calls.read_text()
    assert (tmp_path / "run" / "job.sbatch").read_text() == before
    for number in (0, 2):
        leave(submitted.shard(number), status="complete", exit_code=0)
    calls.unlink()
    assert main(["resume", "--run-dir", "run"]) == 0
    assert [line for line in calls.read_text().splitlines() if line.startswith("sbatch")] == [
        f"sbatch --parsable {tmp_path}/run/finish.sbatch"
    ]


def test_a_fleet_in_the_queue_is_not_submitted_again(
    submitted: Fleet, clients: Clients, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clients(squeue="echo 41_0 RUNNING")
    for command in (["submit", *words(tmp_path)], ["resume", "--run-dir", str(submitted.run_dir)]):
        assert main(command) == 2
        assert "1 of its tasks and jobs are in the queue, such as 41_0" in capsys.readouterr().err


def test_status_is_one_table_and_works_without_slurm(
    submitted: Fleet, clients: Clients, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(submitted.shard(0), status="complete", exit_code=0, totals={"records": 1234})
    clients(squeue="echo 41_1 PENDING; echo 42 PENDING")
    capsys.readouterr()
    where = ["--run-dir", str(submitted.run_dir)]
    assert main(["status", *where]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["tasks", "records", "failures", "state"],
        ["1", "1,234", "0", "complete"],
        ["1", "0", "0", "pending"],
        ["1", "0", "0", "not", "begun"],
        ["3", "1,234", "0", "in", "all"],
        ["finishing", "job", "41:", "not", "in", "the", "queue"],
    ]
    (tmp_path / "bin" / "squeue").unlink()
    assert main(["status", *where, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "SLURM's queue can't be read (squeue: not found" in err
    told: dict[str, Any] = json.loads(out)
    assert [task["state"] for task in told["tasks"]] == ["complete", "not begun", "not begun"]
    assert told["finishing_job"] == "not known"


def test_cancel_takes_out_the_finishing_job_before_the_tasks(
    tmp_path: Path, clients: Clients, submitted: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = clients(squeue="echo 41_0 PENDING", sbatch='case "$*" in *finish*) echo 42;; *) echo 41;; esac')
    assert submitted.jobs == ["41", "41"]
    assert main(["cancel", "--run-dir", str(submitted.run_dir)]) == 0
    assert calls.read_text().endswith("scancel 41 41\n")
    assert "1 tasks and jobs were cancelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "code"), [("JobState=FAILED ExitCode=3:0", 3), ("JobState=CANCELLED ExitCode=0:15", 75)]
)
def test_waiting_ends_as_the_finishing_job_did_and_outlasts_a_controller_that_is_away(
    submitted: Fleet,
    clients: Clients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: str,
    code: int,
) -> None:
    monkeypatch.setattr(commands, "POLL_S", 0)
    away = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 1; }}"
    asked = f'case "$2" in job) echo "{state}";; *) {CONFIG};; esac'
    clients(scontrol=asked, sbatch="echo 77")
    shutil.rmtree(submitted.run_dir)
    (submitted.run_dir / "logs").mkdir(parents=True)
    (submitted.run_dir / "logs" / "finish-77.log").write_text("done\n")
    clients(squeue=away)
    assert main(["submit", *words(tmp_path), "--wait"]) == code
    assert capsys.readouterr().out.endswith("done\n")
    assert (tmp_path / "once").exists()


def test_a_run_directory_without_a_fleet_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "resume", "cancel"):
        assert main([command, "--run-dir", str(tmp_path)]) == 2
        assert "no slurm.json there; engine.slurm submit makes one" in capsys.readouterr().err
    (tmp_path / "slurm.json").write_text("[]")
    assert main(["status", "--run-dir", str(tmp_path)]) == 2
    assert "slurm.json: can't be read" in capsys.readouterr().err


def test_a_name_that_is_not_utf_8_stands_in_the_script_as_it_is(
    tmp_path: Path, clients: Clients, capfd: pytest.CaptureFixture[str]
) -> None:
    clients(scontrol=CONFIG, squeue="", sbatch="echo 41")
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(name).mkdir()
    given = [name, *words(tmp_path)[1:]]
    assert main(["submit", *given, "--dry-run"]) == 0
    assert "caf\\udce9" in capfd.readouterr().out
    assert main(["submit", *given]) == 0
    assert b"/caf\xe9'" in (tmp_path / "run" / "job.sbatch").read_bytes()
    assert main(["resume", "--run-dir", str(tmp_path / "run")]) == 0
    assert b"/caf\xe9'" in (tmp_path / "run" / "job.sbatch").read_bytes()
