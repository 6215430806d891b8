"""A plan that is killed, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import plan
from engine.cli.options import parse
from engine.errors import UsageError
from engine.fleet.identity import IDENTITY, check_fleet
from engine.fleet.table import Shares
from engine.slurm.__main__ import main as slurm


def test_no_task_cuts_a_new_listing_by_an_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in range(6):
        (files / f"{number}.txt").write_text("text")
    manifest = tmp_path / "manifest.jsonl.gz"
    command = [str(files), "--shards", "2", "--calibrate-seconds", "0", "--quiet", "--to", str(manifest)]
    assert plan.main(command) == 0
    for number in range(6, 20):
        (files / f"{number}.txt").write_text("text")

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(plan, "take_census", killed)
        assert plan.main([*command, "--relist"]) == 75
    with pytest.raises(UsageError, match="make both with"):
        Shares(manifest, "shards")
    assert plan.main(command) == 0
    shares = Shares(manifest, "shards")
    assert len({line.number for shard in range(2) for line in shares.lines(shard)}) == 20


def test_a_wrong_number_of_tasks_is_refused_and_does_not_stay_with_the_run_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.txt").write_text("text")
    run = ["--run-dir", str(tmp_path / "run")]
    manifest = str(tmp_path / "run" / plan.MANIFEST)
    command = [str(tmp_path / "files"), "--shards", "3", "--calibrate-seconds", "0", "--quiet", *run]
    assert plan.main(command) == 0
    shard = ["--manifest", manifest, "--fleet", "--shard", "0/4", *run]
    with pytest.raises(UsageError, match="was cut into 3 shards"):
        check_fleet(parse(shard))
    assert not (tmp_path / "run" / IDENTITY).exists()
    check_fleet(parse([*shard, "--lease"]))
    capsys.readouterr()
    assert slurm(["submit", "--manifest", manifest, "--tasks", "4", "--dry-run", *run]) == 2
    assert "was cut into 3 shards" in capsys.readouterr().err
