"""Processes of a run that really die, or are stopped, and files that are really to blame for it."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.runs import HANG_S, Corpus, same_vectors, wait_until
from tests.integration.test_run import (
    PROSE,
    big_corpus,
    children_by_score,
    undisturbed,
    wait_for_records,
)

#: For a single file that doesn't fit the buffer, while the model is done with what does in some 20 s: small
#: chunks take many bytes for each of their tokens.
SMALL_CHUNKS = ("--chunk-size", "32", "--buffer", "8MiB")


def log_of(corpus: Corpus) -> str:
    """The run's log so far."""
    path = corpus.run_dir / "run.log"
    return path.read_text() if path.exists() else ""


def indexed(corpus: Corpus) -> int:
    """Records that the run says are written."""
    path = corpus.run_dir / "status.json"
    return int(json.loads(path.read_text())["chunks"]["indexed"]) if path.exists() else 0


def kill_each_parser(process: psutil.Popen, corpus: Corpus, number: signal.Signals, times: int) -> None:
    """Send so many parsers the signal, each once it is at work on the corpus's only file."""
    for killed in range(times):
        name = f"parser-{killed} started, process "
        wait_until(lambda name=name: name in log_of(corpus))  # type: ignore[misc]
        pid = int(log_of(corpus).split(name)[1].split()[0])
        # At work, and not about to import its libraries, once something of its file was written.
        before = indexed(corpus)
        wait_until(lambda before=before: indexed(corpus) > before)  # type: ignore[misc]
        os.kill(pid, number)
        wait_until(lambda pid=pid: not psutil.pid_exists(pid))  # type: ignore[misc]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("stage", ["inference", "indexer"])
def test_the_death_of_a_later_stage_is_made_good_within_the_run(
    tmp_path: Path, stage: str, how: signal.Signals
) -> None:
    corpus = big_corpus(tmp_path)
    score = {"inference": "200", "indexer": "100"}[stage]
    with corpus.started(text_model="stand-in:16@60000") as process:
        wait_for_records(corpus, 1)
        (victim,) = children_by_score(process, score)
        os.kill(victim, how)
        assert process.wait(HANG_S) == 0
        told = process.stderr.read()
    reason = {signal.SIGKILL: "was killed by SIGKILL", signal.SIGSTOP: "was ended: stopped for 20 s"}[how]
    assert f"{stage} {reason}" in told
    assert "starting again in 0.5 s" in told
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert summary["restarts"] == {"parser": 0, "inference": 0, "indexer": 0} | {stage: 1}
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_parser_that_is_stopped_is_replaced_and_its_file_not_blamed(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--file-timeout", "2", text_model="stand-in:16@150000") as process:
        wait_until(lambda: children_by_score(process))
        (stuck,) = children_by_score(process)
        os.kill(stuck, signal.SIGSTOP)
        assert process.wait(HANG_S) == 0
    assert "parser-0 was ended: stopped for 20 s" in log_of(corpus)
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_run_that_was_stopped_as_a_whole_goes_on_and_blames_nobody(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--file-timeout", "2", text_model="stand-in:16@60000") as process:
        wait_for_records(corpus, 1)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(8)  # longer than a process takes for its own pause
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(HANG_S) == 0
    assert json.loads((corpus.run_dir / "summary.json").read_text())["restarts"] == {
        "parser": 0, "inference": 0, "indexer": 0,
    }  # fmt: skip


def test_a_file_that_crashes_its_parsers_is_tried_alone_at_last_and_then_is_poison(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("poison.txt", "".join(f"{line}: {PROSE}" for line in range(30_000)))
    with corpus.started(*SMALL_CHUNKS, "--workers", "2", text_model="stand-in:16@15000") as process:
        kill_each_parser(process, corpus, signal.SIGSEGV, 3)
        assert process.wait(HANG_S) == 3
    (failure,) = (json.loads(line) for line in (corpus.run_dir / "failures.jsonl").read_text().splitlines())
    assert (failure["error_type"], failure["page"]) == ("poison", None)
    assert failure["message"] == (
        "its parser was killed by SIGSEGV; 3 times, the last time with no other file at work"
    )
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert summary["files"]["partial"] == 1  # what came before the crash is in the index
    assert summary["restarts"]["parser"] == 3
    # It is tried again by the next run, goes on after what was acknowledged, and is whole then.
    again = corpus.run(*SMALL_CHUNKS)
    assert again.code == 0, again.err
    assert 0 < again.summary["chunks"]["indexed"] < again.summary["totals"]["records"]
    assert same_vectors(corpus.records(), undisturbed(corpus, *SMALL_CHUNKS))


def test_a_file_whose_parsers_are_killed_from_outside_is_simply_parsed_again(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("innocent.txt", "".join(f"{line}: {PROSE}" for line in range(30_000)))
    with corpus.started(*SMALL_CHUNKS, text_model="stand-in:16@20000") as process:
        kill_each_parser(process, corpus, signal.SIGKILL, 4)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(HANG_S) == 75
    assert corpus.run(*SMALL_CHUNKS).code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus, *SMALL_CHUNKS))


def test_an_inference_process_that_dies_again_and_again_ends_the_run_resumable(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@60000") as process:
        wait_until(lambda: children_by_score(process, "200"))
        while process.poll() is None:
            for pid in children_by_score(process, "200"):
                # One that was killed in the round before may be reaped between look and kill.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        assert process.returncode == 1
        told = process.stderr.read()
    assert "inference was killed by SIGKILL, possibly out of memory, for the 7th time with nothing" in told
    assert "Traceback" not in told
    assert json.loads((corpus.run_dir / "summary.json").read_text())["restarts"]["inference"] == 7
    assert corpus.run().code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_stage_that_dies_while_the_run_drains_leaves_it_resumable(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started("--buffer", "8MiB", text_model="stand-in:16@20000") as process:
        wait_for_records(corpus, 1)
        (victim,) = children_by_score(process, "200")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in log_of(corpus))
        os.kill(victim, signal.SIGKILL)
        assert process.wait(HANG_S) == 75
        assert "by a signal; inference was killed by SIGKILL" in process.stderr.read()
    assert corpus.run().code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_second_ctrl_c_ends_a_run_whose_processes_are_stopped(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(text_model="stand-in:16@60000") as process:
        wait_for_records(corpus, 1)
        scores = ("800", "200", "100")
        children = [psutil.Process(pid) for score in scores for pid in children_by_score(process, score)]
        assert len(children) == 3
        for child in children:
            child.suspend()
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "SIGINT: stopping" in log_of(corpus))
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_S) == 75
        assert "interrupted twice" in process.stderr.read()
        assert not any(child.is_running() and child.status() != "zombie" for child in children)
    assert corpus.run().code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus))
