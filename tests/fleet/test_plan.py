"""A plan that is killed, and made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import plan
from engine.errors import UsageError
from engine.fleet.table import Shares


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
