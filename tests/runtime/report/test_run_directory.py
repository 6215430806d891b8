"""The run directory is claimed by one run, and what is written there is whole at any time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.runtime.report.run_directory import claim, log_to, remove_status, write_lines
from engine.runtime.report.summary import (
    Files,
    Status,
    Summary,
    read_status,
    read_summary,
    write_status,
    write_summary,
)


def test_a_directory_is_made_with_its_parents_and_locked(tmp_path: Path) -> None:
    lock = claim(tmp_path / "deep" / "er")
    with pytest.raises(UsageError, match="locked by process"):
        claim(tmp_path / "deep" / "er")
    lock.release()


def test_a_directory_that_can_not_be_made_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as refused:
        claim(tmp_path / "file" / "run")
    expected = f"--run-dir {tmp_path}/file/run: not a directory; name a directory that can be written"
    assert str(refused.value) == expected


def test_the_log_holds_what_the_engine_says_from_its_level_on_in_utc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    end = log_to(tmp_path, "info")
    before = datetime.now(UTC)
    logger = logging.getLogger("engine")
    logger.info("caf\udce9 is read")
    logger.debug("unheard")
    end()
    logger.info("after the end")
    monkeypatch.undo()
    time.tzset()
    (line,) = (tmp_path / "run.log").read_text(encoding="utf-8").splitlines()
    assert line.endswith("INFO caf\\udce9 is read")
    written = datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs((written - before).total_seconds()) < 600


def test_a_status_is_replaced_and_ends_with_the_run(tmp_path: Path) -> None:
    for files in (1, 2):
        write_status(tmp_path, Status(files=Files(files), pid=7))
    status = json.loads((tmp_path / "status.json").read_text())
    assert list(status)[:4] == ["status", "pid", "database", "in_flight_bytes"]
    assert (status["status"], status["pid"], status["files"]["discovered"]) == ("running", 7, 2)
    assert read_status(tmp_path) == Status(files=Files(2), pid=7)
    write_summary(tmp_path, Summary(status="complete", config={"inputs": ("caf\udce9",)}))
    assert json.loads((tmp_path / "summary.json").read_text())["config"]["inputs"] == ["caf\udce9"]
    remove_status(tmp_path)
    remove_status(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    write_summary(tmp_path, Summary(status="stopped"))
    assert read_summary(tmp_path) == Summary(status="stopped")


# Lines of JSON


def test_lines_replace_the_file_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    path.write_text("old\n")
    assert write_lines(path, [{"source": "/é"}, {"source": "/b", "page": None}]) == 2
    assert path.read_text(encoding="utf-8") == '{"source": "/é"}\n{"source": "/b", "page": null}\n'
    assert write_lines(path, []) == 0
    assert path.read_text() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_lines_that_break_off_leave_the_old_file(tmp_path: Path) -> None:
    def lines() -> Iterator[Mapping[str, object]]:
        yield {"source": "/a"}
        raise OSError("disk full")

    path = tmp_path / "failures.jsonl"
    path.write_text("old\n")
    with pytest.raises(OSError, match="disk full"):
        write_lines(path, lines())
    assert path.read_text() == "old\n"
