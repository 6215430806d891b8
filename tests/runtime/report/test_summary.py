"""The summary adds up, comes back from its file as it was written, and is read from older engines' files."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from engine.runtime.ledger.counts import Counts
from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report.closing import closing_lines, speed_lines
from engine.runtime.report.efficiency import Observed, speed_of_light
from engine.runtime.report.summary import (
    Chunks,
    Files,
    Memory,
    Padding,
    PlannedMemory,
    Salvaged,
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
    assert made.throughput == Throughput(503.75, 100_000.0, 3.75)
    assert made.chunks == Chunks(4000, 30, 12, 4030, 7)
    assert (made.tokens, made.bytes_read, made.seconds) == (800_000, 10**9, 8.0)
    assert made.padding == Padding(200_000, 0.8)
    assert json.loads(json.dumps(asdict(made)))["stages"] == {"parse": {
        "busy_s": 3.0, "wait_in_s": 2.0, "wait_out_s": 1.0, "cpu_s": 2.5,
        "waits": {"files": 2.0, "credits": 1.0},
        "calls": {"parse": {"seconds": 2.75, "cpu_s": 2.25}},
    }}  # fmt: skip


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


# The last lines


def last_lines(counts: Counts, seconds: float, totals: Totals, failures: int, run_dir: Path) -> list[str]:
    summary = Summary(**vars(figures(counts, {}, seconds)), totals=totals)
    return closing_lines(summary, counts.rules, failures, run_dir)


def test_the_last_lines_tell_totals_rules_and_where_failures_are(tmp_path: Path) -> None:
    assert last_lines(COUNTS, 8.0, Totals(files=1101, records=4900), 3, tmp_path) == [
        "files: 1,200 found: 1,000 indexed, 1 partial, 100 unchanged, 60 skipped, 2 failed, 5 removed,"
        " 37 pending",
        f"skipped: 10 empty, 50 hidden; each in {tmp_path}/skipped.jsonl",
        "chunks: 4,000 text (100,000 tokens/s) and 30 image (3.8 images/s) embedded, 4,030 records written,"
        " 7 deleted",
        "index: 4,900 records of 1,101 files",
        f"failures: 3, each with its reason in {tmp_path}/failures.jsonl",
    ]


def test_a_run_with_nothing_to_do_says_so_in_two_lines(tmp_path: Path) -> None:
    assert last_lines(Counts(), 1.0, Totals(), 0, tmp_path) == [
        "files: 0 found: nothing to do",
        "index: 0 records of 0 files",
    ]


def test_repaired_damage_is_counted(tmp_path: Path) -> None:
    counts = Counts(discovered=3, indexed=3, replaced_characters=1200, truncated_images=1)
    assert figures(counts, {}, 1.0).salvaged == Salvaged(1200, 1)
    lines = last_lines(counts, 1.0, Totals(3, 3), 0, tmp_path)
    damage = "1,200 characters that could not be decoded and 1 truncated pictures"
    assert f"damaged: {damage}; indexed all the same" in lines


# Speed


def test_the_last_lines_tell_speed_waits_and_advice() -> None:
    parse = Stats(12.0, 8.0, 180.0, 10.0, {"files": 8.0, "credits": 180.0}, {"parse": Calls(11.0, 10.0)})
    seen = Observed(
        seconds=110.0, first_s=8.0, last_s=108.0, cores=2.0, items={"text": 500_000, "image": 0},
        stages={
            "parse": parse,
            "infer": Stats(98.0, 2.0, 0.0, 180.0, {"parsers": 2.0}, {"text": Calls(98.0, 180.0)}),
            "index": Stats(5.0, 95.0, 0.0, 4.0, {"inference": 95.0}, {"database": Calls(4.5, 4.0)}),
        },
        devices={"text": "cpu"},
    )  # fmt: skip
    assert speed_lines(seen, speed_of_light(seen)) == [
        "speed: 95 % of what is possible (5,000 of 5,263 tokens/s by 2 cores)",
        "idle: parsers 94 % (no files 4 %, buffer full 90 %), inference 2 % (waiting for parsers), indexer"
        " 100 % (waiting for vectors 95 %, waiting for the database 4 %)",
        "advice: the model limits the speed: it reached 95 % of what this machine's 2 cores can do",
    ]


def test_a_run_that_embedded_nothing_has_no_lines_of_speed_and_a_short_one_only_words() -> None:
    nothing = Observed(1.0, None, None, 2.0, {"text": 0, "image": 0}, {})
    assert speed_lines(nothing, speed_of_light(nothing)) == []
    short = Observed(1.0, 0.5, None, 2.0, {"text": 5, "image": 0}, {})
    assert speed_lines(short, speed_of_light(short)) == [
        "advice: the run was too short to measure its speed: 0.00 s of embedding"
    ]
