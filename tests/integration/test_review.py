"""What a sceptical reader of the runtime tried, and found wanting."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

from tests.integration.runs import HANG_S, Corpus

PROSE = "The engine reads, embeds and writes. "


# It ended with exit code 1 at the first line that it printed; the summary said 75.
def test_a_run_whose_terminal_is_gone_goes_on_to_its_end(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", PROSE)
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(corpus.command(), stderr=writer)
    os.close(writer)
    assert process.wait(HANG_S) == 0
    summary = json.loads((corpus.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["files"]["indexed"]) == ("complete", 1)


# It said that the run directory can't be written.
def test_a_process_that_can_t_be_started_is_named(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", PROSE)
    done = subprocess.run(
        corpus.command(),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14)),
    )
    assert done.returncode == 1
    assert "indexer can't be started: Too many open files" in done.stderr
    assert "Traceback" not in done.stderr


# Seen with two SIGTERM 0.2 s apart: exit code -15 after a summary that said 75.
def test_a_signal_while_the_command_ends_leaves_its_exit_code(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.write("a.txt", PROSE)
    kill = "import atexit, os, signal\natexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
    (tmp_path / "sitecustomize.py").write_text(kill)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        corpus.command(), env=os.environ | {"PYTHONPATH": path}, check=False, timeout=HANG_S
    )
    assert done.returncode == 0
