"""Each error becomes one line and one exit code, whatever the command, and each command has both names."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import engine
from engine.__main__ import COMMANDS, main
from engine.cli.exits import command
from engine.errors import (
    EXIT_DONE,
    EXIT_ENGINE_FAILED,
    EXIT_FAILURES,
    EXIT_STOPPED,
    EXIT_USAGE,
    DatabaseUnavailableError,
    EngineError,
    UsageError,
)
from engine.runtime.limits.stop import RunStoppedError

HANG_S = 120.0

GOES_ON = "; run the same command again to continue"


def ended(error: BaseException, resumes: bool = False) -> int:
    """The exit code of a command that raises this."""

    @command("test", resumes=resumes)
    def raising(argv: Sequence[str] | None = None) -> int:
        raise error

    return raising()


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("give\nanother"), EXIT_USAGE, "give another"),
        (DatabaseUnavailableError("refused"), EXIT_USAGE, "refused"),
        (EngineError("counts differ"), EXIT_ENGINE_FAILED, "counts differ"),
        (OSError(28, "No space left on device"), EXIT_ENGINE_FAILED, "[Errno 28] No space left on device"),
        (RunStoppedError("by a signal"), EXIT_STOPPED, f"stopped: by a signal{GOES_ON}"),
        (KeyboardInterrupt(), EXIT_STOPPED, f"interrupted{GOES_ON}"),
        (UsageError("no \x1b[31m"), EXIT_USAGE, "no \\x1b[31m"),
    ],
)
def test_an_error_becomes_a_line_and_a_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(error) == code
    assert capsys.readouterr().err == f"engine.test: {line}\n"


@pytest.mark.parametrize("kind", [DatabaseUnavailableError, OSError, sqlite3.OperationalError])
def test_a_command_that_resumes_only_stops_where_a_disk_or_a_database_fails(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(kind("away"), resumes=True) == EXIT_STOPPED
    assert capsys.readouterr().err == f"engine.test: away{GOES_ON}\n"


def test_a_working_directory_that_is_gone_is_told_and_nothing_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    line = "engine.test: the working directory is gone; change into one that exists\n"
    for resumes in (False, True):
        assert ended(FileNotFoundError(2, "No such file or directory"), resumes) == EXIT_USAGE
        assert capsys.readouterr().err == line
    assert ended(RunStoppedError("by a signal")) == EXIT_STOPPED
    assert capsys.readouterr().err == (
        "engine.test: stopped: by a signal; the working directory is gone: run the same command"
        " again from an existing one\n"
    )


def test_the_codes_are_those_that_are_documented() -> None:
    codes = (EXIT_DONE, EXIT_ENGINE_FAILED, EXIT_USAGE, EXIT_FAILURES, EXIT_STOPPED)
    assert codes == (0, 1, 2, 3, 75)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_tells_its_version_under_the_common_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main([name, "--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out == f"{engine.__version__}\n"


def test_the_common_name_lists_the_commands_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in COMMANDS)
    assert main([]) == 2
    capsys.readouterr()
    assert main(["sing"]) == 2
    assert capsys.readouterr().err.startswith("engine.sing: unknown command; accepted are run, search, ")


def run(program: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A shell line with a corpus of one file beside it, and `$RUN` for the command and its options."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("a note")
    options = (
        "run corpus --adapter lancedb://db --run-dir run --text-model stand-in:8 --image-model stand-in:8"
    )
    environment = {"RUN": f"{sys.executable} -m engine {options}"}
    return subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["", "2>&-", ">&-", "2>&- >&-", "<&-"])
def test_a_run_under_the_common_name_works_with_what_is_closed(tmp_path: Path, closed: str) -> None:
    done = run(f"$RUN {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.json").exists()
    assert "Traceback" not in done.stderr
