"""The last lines of a run tell what became of the files, what was left out and why, and how fast it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.runtime.ledger.counts import MOST_TYPES, Counts
from engine.runtime.process.stats import Calls, Stats
from engine.runtime.report.closing import closing_lines, gone, nothing_indexed, skipped, speed_lines
from engine.runtime.report.efficiency import Observed, speed_of_light
from engine.runtime.report.summary import Summary, Totals, figures
from tests.runtime.report.test_summary import COUNTS


def last_lines(counts: Counts, seconds: float, totals: Totals, failures: int, run_dir: Path) -> list[str]:
    summary = Summary(**vars(figures(counts, {}, seconds)), totals=totals)
    return closing_lines(summary, counts, failures, run_dir)


def test_the_last_lines_tell_totals_rules_and_where_failures_are(tmp_path: Path) -> None:
    assert last_lines(COUNTS, 8.0, Totals(files=1101, records=4900), 3, tmp_path) == [
        "files: 1,200 found: 1,000 indexed, 1 partial, 100 unchanged, 60 skipped, 2 failed, 5 removed,"
        " 37 pending",
        f"skipped: 10 empty, 50 hidden; each in {tmp_path}/skipped.jsonl",
        "chunks: 4,000 text and 30 image embedded (12 of them by a known vector), 4,030 records written,"
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
    lines = last_lines(counts, 1.0, Totals(3, 3), 0, tmp_path)
    damage = "1,200 characters that could not be decoded and 1 truncated pictures"
    assert f"damaged: {damage}; indexed all the same" in lines


# What was left out, and what is gone


def skips(*names: str, rule: str = "unknown-type") -> Counts:
    counts = Counts()
    for name in names:
        counts.skip(name, rule)
    return counts


def test_what_no_parser_reads_is_told_by_its_type() -> None:
    counts = skips(*["/a/b.docx"] * 9, *["/c.HEIC"] * 4)
    counts.skip("/d.txt", "empty")
    assert skipped(counts) == "9 docx, 4 heic (no parser), 1 empty"
    assert (counts.skipped, counts.rules) == (14, {"unknown-type": 13, "empty": 1})


def test_a_type_is_told_by_the_suffix_as_far_as_it_is_true() -> None:
    names = [
        "/a/Makefile",
        "/a/.hidden",
        "/b.d/core",
        "/x.pdf",
        "/y.not a suffix",
        "/z.tar.gz",
        "/python3.11",
    ]
    counts = skips(*names, "/a.7z")
    assert counts.unread == {"without a suffix": 5, "pdf with other content": 1, "gz": 1, "7z": 1}
    assert skipped(counts) == "5 without a suffix, 1 7z, 1 gz (no parser), 1 pdf with other content"


def test_many_types_are_counted_and_told_in_bounds() -> None:
    counts = skips(*(f"/{i}.x{i}" for i in range(2 * MOST_TYPES)), "/a.docx", "/b.x0")
    assert len(counts.unread) == MOST_TYPES + 1
    assert sum(counts.unread.values()) == 2 * MOST_TYPES + 2
    told = skipped(counts)
    assert told.startswith(f"{MOST_TYPES + 1} other, 2 x0, 1 x1, ")
    assert told.endswith("93 of other types (no parser)")


def test_files_that_are_gone_are_told_with_what_deletes_their_records(tmp_path: Path) -> None:
    assert gone(502) == "502 files are gone from the corpus; --prune deletes their records"
    assert gone(1, "engine.merge --prune") == (
        "1 file is gone from the corpus; engine.merge --prune deletes its records"
    )
    lines = last_lines(Counts(gone=2), 1.0, Totals(3, 3), 0, tmp_path)
    assert lines[-1] == "2 files are gone from the corpus; --prune deletes their records"


def test_a_run_that_could_index_nothing_has_words_for_it() -> None:
    assert nothing_indexed(Counts()) == "nothing was indexed: no file was found"
    told = "nothing could be indexed: of 1,003 found, 1,000 skipped and 3 failed"
    assert nothing_indexed(Counts(discovered=1003, skipped=1000, failed=3)) == told
    for counts in (Counts(2, indexed=1, skipped=1), Counts(2, partial=1, failed=1), Counts(1, unchanged=1)):
        assert nothing_indexed(counts) == ""


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("engine-output", "every INPUT lies in a run directory, an index or a cache of the engine"),
        ("gitignore", "git ignores every file; --no-gitignore takes them"),
        ("excluded-by-default", "nothing but .*; --no-default-excludes takes them"),
        ("hidden", "every file or folder is hidden; --hidden takes them"),
    ],
)
def test_where_one_rule_left_out_everything_its_option_is_named(rule: str, told: str) -> None:
    counts = skips("/a", "/b", rule=rule)
    counts.discovered = 2
    assert re.fullmatch(f"nothing was indexed: {told}", nothing_indexed(counts))
    counts.skip("/c", "empty")
    counts.discovered = 3
    assert nothing_indexed(counts) == "nothing could be indexed: of 3 found, 3 skipped"


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


def test_the_shares_of_a_stage_that_was_idle_are_never_more_than_the_whole() -> None:
    seen = Observed(
        seconds=10.0, first_s=1.0, last_s=2.0, cores=2.0, items={"text": 500, "image": 0},
        stages={
            "infer": Stats(1.0, 0.0, 0.0, 1.0, {}, {"text": Calls(0.5, 0.5)}),
            "index": Stats(0.5, 0.5, 0.0, 0.1, {"inference": 0.5}, {"database": Calls(1.5, 0.1)}),
        },
        devices={"text": "cpu"},
    )  # fmt: skip
    assert (
        "indexer 100 % (waiting for vectors 25 %, waiting for the database 75 %)"
        in speed_lines(seen, speed_of_light(seen))[1]
    )
