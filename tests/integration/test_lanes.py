"""Several devices in one run: each has processes of its own, and none needs the others to go on."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from tests.integration.runs import Corpus, same_vectors, wait_until
from tests.integration.test_deaths import log_of
from tests.integration.test_run import big_corpus, children_by_score, undisturbed, wait_for_records

TWO = ("--device", "cpu,cpu", "--workers", "2")


def inference_processes(corpus: Corpus, lane: int) -> list[int]:
    """The lane's inference processes so far, oldest first."""
    return [int(pid) for pid in re.findall(rf"inference-{lane} started, process (\d+)", log_of(corpus))]


def restarts(corpus: Corpus) -> dict[str, int]:
    found: dict[str, int] = json.loads((corpus.run_dir / "summary.json").read_text())["restarts"]
    return found


def test_a_device_whose_process_dies_is_started_again_and_the_other_goes_on(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(*TWO, text_model="stand-in:16@30000") as process:
        wait_for_records(corpus, 1)
        wait_until(lambda: inference_processes(corpus, 0) and inference_processes(corpus, 1))
        (victim,), (other,) = inference_processes(corpus, 0), inference_processes(corpus, 1)
        (indexer,) = children_by_score(process, "100")
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(inference_processes(corpus, 0)) == 2)
        assert other in children_by_score(process, "200")
        assert process.wait(120) == 0
        told = process.stderr.read()
    assert "inference-0 was killed by SIGKILL, possibly out of memory; starting again in 0.5 s" in told
    assert inference_processes(corpus, 1) == [other]
    assert log_of(corpus).count("indexer started") == 1, f"{indexer} was started again"
    assert restarts(corpus) == {"parser": 0, "inference": 1, "indexer": 0}
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_device_that_keeps_dying_is_given_up_and_the_other_does_it_all(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(*TWO, text_model="stand-in:16@20000") as process:
        wait_until(lambda: inference_processes(corpus, 0) and inference_processes(corpus, 1))
        while process.poll() is None and "given up" not in log_of(corpus):
            with suppress(ProcessLookupError):
                os.kill(inference_processes(corpus, 1)[-1], signal.SIGKILL)
        wait_until(lambda: process.poll() is not None)
        told = process.stderr.read()
    assert process.returncode == 0, told
    line = r"cpu \(inference-1\) died 3 times and is given up \(.*SIGKILL.*\); 1 of 2 devices goes on"
    assert re.search(line, told)
    assert restarts(corpus)["inference"] == len(inference_processes(corpus, 1)) == 3
    assert len(inference_processes(corpus, 0)) == 1
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_device_that_dies_while_the_run_drains_leaves_it_resumable(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(*TWO, "--buffer", "16MiB", text_model="stand-in:16@20000") as process:
        wait_for_records(corpus, 1)
        wait_until(lambda: inference_processes(corpus, 1))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in log_of(corpus))
        os.kill(inference_processes(corpus, 1)[0], signal.SIGKILL)
        assert process.wait(120) == 75
        assert "by a signal" in process.stderr.read()
    assert len(inference_processes(corpus, 1)) == 1
    assert corpus.run(*TWO).code == 0
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_the_indexer_s_death_starts_all_devices_again(tmp_path: Path) -> None:
    corpus = big_corpus(tmp_path)
    with corpus.started(*TWO, text_model="stand-in:16@40000") as process:
        wait_for_records(corpus, 1)
        wait_until(lambda: inference_processes(corpus, 1))
        (victim,) = children_by_score(process, "100")
        os.kill(victim, signal.SIGKILL)
        assert process.wait(120) == 0
    assert restarts(corpus) == {"parser": 0, "inference": 0, "indexer": 1}
    assert same_vectors(corpus.records(), undisturbed(corpus))
