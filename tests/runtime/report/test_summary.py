"""The summary adds up, comes back from its file as it was written, and is read from older engines' files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from engine.runtime.ledger.counts import Counts
from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report.summary import (
    Chunks,
    Files,
    Memory,
    Padding,
    PlannedMemory,
    SpeedOfLight,
    Summary,
    Throughput,
    Totals,
    environment,
    figures,
    read_summary,
    write_summary,
)

COUNTS = Counts(
    discovered=1200,
    indexed=1000,
    partial=1,
    unchanged=100,
    skipped=60,
    failed=2,
    removed=5,
    text_chunks=4000,
    image_chunks=30,
    deduplicated=12,
    records=4030,
    deleted=7,
    tokens=800_000,
    padding=200_000,
    bytes_read=10**9,
    rules={"hidden": 50, "empty": 10},
)


# Figures


def test_the_counts_of_files_add_up() -> None:
    files = figures(COUNTS, {}, 1.0).files
    assert files == Files(1200, 1000, 1, 100, 60, 2, removed=5, pending=37)
    ended = files.indexed + files.partial + files.unchanged + files.skipped + files.failed
    assert ended + files.pending == files.discovered


def test_rates_are_those_of_the_whole_run() -> None:
    parse = Stats(3.0, 2.0, 1.0, 2.5, {"files": 2.0, "credits": 1.0}, {"parse": Calls(2.75, 2.25)})
    made = figures(COUNTS, {"parse": parse}, 8.0)
    # Of 4,030 chunks 12 were not computed.
    assert made.throughput == Throughput(502.25, 100_000.0, 3.75)
    assert made.chunks == Chunks(4000, 30, 12, 4030, 7)
    assert (made.tokens, made.bytes_read, made.seconds) == (800_000, 10**9, 8.0)
    assert made.padding == Padding(200_000, 0.8)
    assert json.loads(json.dumps(asdict(made)))["stages"] == {"parse": {
        "busy_s": 3.0, "wait_in_s": 2.0, "wait_out_s": 1.0, "cpu_s": 2.5,
        "waits": {"files": 2.0, "credits": 1.0},
        "calls": {"parse": {"seconds": 2.75, "cpu_s": 2.25}},
    }}  # fmt: skip


def test_rates_are_of_what_was_computed_and_of_nothing_else() -> None:
    counts = replace(COUNTS, spared_tokens=300_000, spared_pictures=10)
    assert figures(counts, {}, 10.0).throughput == Throughput(401.8, 50_000.0, 2.0)
    assert figures(counts, {}, 10.0).tokens == 800_000


def test_the_environment_names_versions() -> None:
    found = environment()
    assert found.python == sys.version.split()[0]
    assert "torch" in found.packages


# The file


def test_a_summary_comes_back_as_it_was_written(tmp_path: Path) -> None:
    parse = Stats(3.0, 2.0, 1.0, 2.5, {"files": 2.0}, {"parse": Calls(2.75, 2.25)})
    written = Summary(
        status="complete", exit_code=0, run=3, **vars(figures(COUNTS, {"parse": parse}, 8.0, 77)),
        speed_of_light=SpeedOfLight(ratio=0.5, unit="tokens/s", busy_s={"parsers": 1.0}),
        totals=Totals(5, 6), peak_pss_bytes={"total": 9}, environment=environment(), restarts={"parser": 1},
        memory=Memory(100, "--max-ram", PlannedMemory(2, 3, 4, {"parsers": 5})), config={"inputs": ["/a"]},
    )  # fmt: skip
    write_summary(tmp_path, written)
    assert read_summary(tmp_path) == written
    keys = list(json.loads((tmp_path / "summary.json").read_text()))
    assert keys[:5] == ["status", "exit_code", "run", "files", "chunks"]
    assert keys[-2:] == ["config", "environment"]


def test_what_an_older_engine_did_not_write_or_wrote_otherwise_keeps_its_default(tmp_path: Path) -> None:
    old = {
        "status": "complete", "exit_code": 0, "files": {"discovered": 3, "told": 1}, "seconds": 7,
        "stages": {"infer": {"busy_s": 1.5}}, "chunks": 12, "memory": {"plan": "none"}, "run": "first",
        "wishes": [],
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(old))
    stages = {"infer": Stats(1.5)}
    assert read_summary(tmp_path) == Summary(
        status="complete", exit_code=0, files=Files(3), seconds=7, stages=stages
    )
    for damaged in ("", "[]", "{"):
        (tmp_path / "summary.json").write_text(damaged)
        assert read_summary(tmp_path) is None
