"""`python -m engine.status` tells where a run stands from what lies in its directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from engine.runtime.ledger import store as module
from engine.runtime.ledger.items import FailureRow
from engine.runtime.ledger.segments import Acknowledged
from engine.runtime.ledger.store import Ledger
from engine.runtime.report import run_directory as rundir
from engine.runtime.report.summary import (
    Chunks,
    Files,
    Status,
    Summary,
    Throughput,
    read_status,
    write_status,
    write_summary,
)
from engine.status import MOST_LISTED, main
from tests.integration.runs import Corpus, kill_group, wait_until
from tests.items import item

SUMMARY = Summary(
    status="complete_with_failures",
    exit_code=3,
    seconds=12.5,
    files=Files(discovered=3, indexed=2, failed=1),
    throughput=Throughput(4.25, 1000.0),
)

STATUS = Status(
    database="it does not answer",
    files=Files(discovered=30, indexed=20, pending=10),
    chunks=Chunks(text=4000, image=5, indexed=3900, deleted=7),
    seconds=61.0,
    throughput=Throughput(65.5, 12_345.0, 0.1),
    peak_in_flight_bytes=3 * 2**20,
)


def fill(folder: Path, failures: int = 2) -> Path:
    """A run directory with two indexed files and one that failed in so many places."""
    folder.mkdir(parents=True)
    with closing(Ledger(folder)) as ledger:
        ledger.set("adapter", "lancedb:///db")
        for name, state in (("/a", "indexed"), ("/b", "indexed"), ("/c \x1b[31m", "partial")):
            row = ledger.items.add(item(name), 1)
            ledger.segments.acknowledge([Acknowledged(row.id, 0, 0, -1, None, "", bytes(32), True)])
            ledger.items.finish(row.id, state)  # type: ignore[arg-type]
        for ordinal in range(failures):
            ledger.items.fail(
                FailureRow(row.id, ordinal, ordinal + 1, "parse", "damaged-page", f"font {ordinal}")
            )
        ledger.items.fail(FailureRow(row.id, 90, None, "index", "refused", "too long"))
    return folder


def told(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> str:
    assert main(["--run-dir", str(folder), *options]) == 0
    return capsys.readouterr().out


def test_a_run_that_has_ended_is_told_by_its_summary_and_its_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "run")
    write_summary(folder, SUMMARY)
    lines = told(capsys, folder).splitlines()
    ended = "the last run that ended: complete_with_failures, exit code 3"
    assert lines[0].startswith(f"{folder}: not running; {ended}, ")
    assert lines[1:] == [
        "adapter: lancedb:///db",
        "last run: 12.5 s; files: 3 discovered, 2 indexed, 1 failed; 4.2 chunks/s, 1,000 tokens/s"
        " over the whole run",
        "ledger: 2 indexed, 1 partial; 6 records acknowledged",
        "failures: 3, by reason:",
        "       2  parse: damaged-page, such as /c \\x1b[31m (page 1): font 0",
        "       1  index: refused, such as /c \\x1b[31m: too long",
    ]
    assert {path.name for path in folder.iterdir()} == {"ledger.sqlite", "summary.json"}


def test_a_run_at_work_is_told_by_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fill(tmp_path / "run")
    write_summary(folder, SUMMARY)
    lock = rundir.claim(folder)
    write_status(folder, STATUS)
    lines = told(capsys, folder).splitlines()
    assert "running, process" in lines[0]
    assert lines[2:7] == [
        "this run: 61 s; files: 30 discovered, 20 indexed, 10 pending",
        "chunks: 4,000 text and 5 image embedded, 3,900 records written, 7 deleted",
        "rates since the start: 65.5 chunks/s, 12,345 tokens/s, 0.1 images/s",
        "in flight: at most 3.0 MiB so far",
        "database: it does not answer",
    ]
    write_status(folder, replace(STATUS, in_flight_bytes=2**20, database=None))
    text = told(capsys, folder)
    assert "in flight: 1.0 MiB, at most 3.0 MiB so far" in text
    assert "database: answers" in text
    lock.release()
    # A run that ends by itself takes this along: it was killed.
    lines = told(capsys, folder).splitlines()
    assert "not running; the last run was killed 0 s ago; run the same command again" in lines[0]
    assert lines[2] == "the killed run: 61 s; files: 30 discovered, 20 indexed, 10 pending"
    rundir.remove_status(folder)
    assert "complete_with_failures, exit code 3" in told(capsys, folder)


def test_shards_are_summed_and_each_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        fill(tmp_path / "shards" / f"{number}-of-3", failures=number)
    write_summary(tmp_path / "shards" / "1-of-3", SUMMARY)
    lock = rundir.claim(tmp_path / "shards" / "2-of-3")
    lines = told(capsys, tmp_path).splitlines()
    found = json.loads(told(capsys, tmp_path, "--json"))
    lock.release()
    assert lines[0] == f"{tmp_path}: 3 shards, 1 running"
    assert lines[1] == "  0-of-3: not running; no run has come to an end yet; 3 files, 6 records"
    assert lines[2].startswith("  1-of-3: not running; the last run that ended: complete_with_failures")
    assert lines[3].startswith("  2-of-3: running, process")
    assert lines[4] == "ledger: 6 indexed, 3 partial; 18 records acknowledged"
    assert [line.split(",")[0].strip() for line in lines[6:]] == [
        "3  index: refused",
        "3  parse: damaged-page",
    ]
    assert (found["running"], found["records"]) == (True, 18)
    assert found["files"] == {"indexed": 6, "partial": 3}
    assert [(one["error_type"], one["count"]) for one in found["failures"]] == [
        ("refused", 3),
        ("damaged-page", 3),
    ]
    assert [run["summary"] for run in found["runs"]] == [None, asdict(SUMMARY), None]
    assert found["runs"][2]["owner"]["pid"] > 0


def test_a_run_without_failures_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(tmp_path).close()
    lines = told(capsys, tmp_path).splitlines()
    assert lines == [
        f"{tmp_path}: not running; no run has come to an end yet",
        "ledger: no files yet; 0 records acknowledged",
        "failures: none",
    ]


def test_a_ledger_without_a_log_is_left_alone_while_its_run_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_on_network", lambda folder: True)
    folder = fill(tmp_path / "run")
    assert "2 indexed" in told(capsys, folder)
    lock = rundir.claim(folder)
    assert "not read while a run writes it" in told(capsys, folder)
    lock.release()


def test_what_is_no_run_directory_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, why in ((tmp_path, "no ledger.sqlite there"), (tmp_path / "none", "no such directory")):
        assert main(["--run-dir", str(folder)]) == 2
        expected = f"engine.status: --run-dir {folder}: {why}; name the directory of a run\n"
        assert capsys.readouterr().err == expected
    (tmp_path / "ledger.sqlite").write_bytes(b"garbage " * 1000)
    assert main(["--run-dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "not a readable ledger" in captured.err
    assert len(captured.err.splitlines()) == 1


# Without a name


def test_the_only_run_here_or_in_runs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    assert capsys.readouterr().err == (
        "engine.status: no run directory here, nor in runs/; name one by --run-dir\n"
    )
    fill(tmp_path / "runs/0a1b2c")
    for arguments in ([], ["--run-dir", "runs"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith("runs/0a1b2c: not running; ")
    monkeypatch.chdir(tmp_path / "runs/0a1b2c")
    assert main([]) == 0
    assert capsys.readouterr().out.startswith(".: not running; ")


def test_several_runs_are_listed_with_their_commands_the_newest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for age, name in ((300, "runs/old"), (200, "mine"), (100, "runs/new")):
        folder = fill(tmp_path / name)
        rundir.write_command(folder, f"cd /x && python -m engine.run {name}")
        write_summary(folder, SUMMARY)
        for file in folder.iterdir():
            os.utime(file, (time.time() - age,) * 2)
    fill(tmp_path / "runs/shared/shards/0-of-2")
    fill(tmp_path / "runs/shared/shards/1-of-2")
    (tmp_path / "docs").mkdir()
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    ended = "not running; the last run that ended: complete_with_failures, exit code 3"
    assert lines == [
        "runs/shared: 2 shards, 0 running",
        "    its command is not known",
        f"runs/new: {ended}, 2 min ago",
        "    cd /x && python -m engine.run runs/new",
        f"mine: {ended}, 3 min ago",
        "    cd /x && python -m engine.run mine",
        f"runs/old: {ended}, 5 min ago",
        "    cd /x && python -m engine.run runs/old",
        "for more of one of them: --run-dir DIR",
    ]
    assert main(["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["run_dirs"]
    assert [each["run_dir"] for each in listed] == ["runs/shared", "runs/new", "mine", "runs/old"]


def test_of_many_runs_the_newest_are_listed_and_a_folder_that_can_not_be_read_hides_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(MOST_LISTED + 3):
        fill(tmp_path / f"runs/{number}")
    (tmp_path / "locked").mkdir()
    real = os.stat

    def stat(path: str | Path, **options: bool) -> os.stat_result:
        if str(path).startswith("locked/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2 * MOST_LISTED :] == [
        "and 3 older run directories",
        "for more of one of them: --run-dir DIR",
    ]
    assert main(["--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["run_dirs"]) == MOST_LISTED + 3


def test_a_run_that_was_killed_tells_how_far_it_had_come_and_with_which_command(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(20):
        corpus.write(f"{number}.txt", "Some words of a file. " * 2000)
    status = [sys.executable, "-m", "engine.status", "--run-dir", str(corpus.run_dir)]
    with corpus.started(text_model="stand-in:16@20000") as process:
        wait_until(lambda: (found := read_status(corpus.run_dir)) and found.progress.bytes_done)
        running = subprocess.run(status, capture_output=True, text=True, timeout=120, check=True).stdout
        assert "\nthis run: " in running
        kill_group(process.pid)
        process.wait(120)
    killed = subprocess.run(status, capture_output=True, text=True, timeout=120, check=True).stdout
    for line in (
        "not running; the last run was killed ",
        f"\ncommand: cd {os.getcwd()} && python -m engine.run {corpus.files} --adapter ",
        "\nthe killed run: ",
        "\nprogress: ",
        " tok/s · ",
    ):
        assert line in killed
