"""What the engine itself writes is never listed, whatever is named as an input."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.options import parse
from engine.errors import UsageError
from engine.models.cache import remember
from engine.records import OUTPUT_MARKER
from engine.runtime.flow.intake import check_corpus, corpus_of
from engine.runtime.report.run_directory import claim
from engine.sources import Corpus
from engine.sources.base import Item, LeftOut, Rules


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a document, and what runs of all times have left in it."""
    folder = tmp_path / "docs"
    files = {
        "a.txt": "a document",
        "staging/b.txt": "a folder with the name of one of LanceDB's",
        "old-run/ledger.sqlite": "", "old-run/lock": "", "old-run/run.log": "a line", "old-run/.hidden": "x",
        f"new-run/{OUTPUT_MARKER}": "", "new-run/run.log": "a line", "new-run/shards/0-of-2/run.log": "x",
        "other.lancedb/chunks.lance/_versions/latest_version_hint.json": "{}",
        "other.lancedb/.writer": "", "other.lancedb/staging/none/task/deleted.lance/_versions/1": "",
        "mixed/staging/mine.txt": "a folder of that name beside a table",
        "mixed/chunks.lance/_versions/hint.json": "{}", "mixed/.writer": "", "mixed/c.txt": "beside a table",
        "tables/any.lance/_versions/hint.json": "{}", "tables/novel.lance": "a file of that name",
    }  # fmt: skip
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return folder


def found(corpus: Corpus, root: Path) -> dict[str, str]:
    return {
        os.path.relpath(each.uri, root): each.rule if isinstance(each, LeftOut) else type(each).__name__
        for each in corpus
    }


def test_run_directories_and_indexes_are_left_out_as_one_each_and_nothing_below_them_is_looked_at(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    real = os.scandir

    def scandir(path: str) -> object:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert found(Corpus([str(docs)], rules=Rules(hidden=True)), docs) == {
        "a.txt": "Item",
        "staging/b.txt": "Item",
        "old-run": "engine-output",
        "new-run": "engine-output",
        "other.lancedb": "engine-output",
        "mixed/chunks.lance": "engine-output",
        "mixed/.writer": "engine-output",
        "mixed/c.txt": "Item",
        "mixed/staging/mine.txt": "Item",
        "tables/any.lance": "engine-output",
        "tables/novel.lance": "Item",
    }
    assert sorted(os.path.relpath(path, docs) for path in listed) == [
        ".",
        "mixed",
        "mixed/staging",
        "staging",
        "tables",
    ]


@pytest.mark.parametrize(
    "name", ["old-run", "old-run/run.log", "new-run/shards/0-of-2", "other.lancedb", "other.lancedb/.writer",
             "mixed/chunks.lance/_versions", "tables/any.lance/_versions/hint.json"],
)  # fmt: skip
def test_what_is_named_inside_of_them_is_left_out_as_well(docs: Path, name: str) -> None:
    assert found(Corpus([f"{docs}/{name}"]), docs) == {name: "engine-output"}
    Path("list").write_text(name)
    assert found(Corpus([], "list"), docs) == {name: "engine-output"}
    both = found(Corpus([str(docs), f"{docs}/{name}"]), docs)
    assert "Item" not in {
        what for path, what in both.items() if path.startswith(name.partition("/")[0] + "/run")
    }


def test_what_this_run_will_write_is_left_out_before_it_is_there(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_ENGINE_CACHE", f"{docs}/cache")
    for name in ("cache/ab/model.txt", "index/readme.txt", "runs/r/run.log", "trace.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")
    Path("index/readme.txt").unlink()
    command = [
        ".",
        "--adapter",
        "lancedb://index?index=exact",
        "--run-dir",
        "runs/r",
        "--memory-trace",
        "trace.jsonl",
    ]
    seen = found(corpus_of(parse(command)), docs)
    assert [seen[name] for name in ("cache", "index", "runs/r", "trace.jsonl")] == ["engine-output"] * 4
    assert seen["a.txt"] == "Item"


def test_an_index_in_a_folder_of_documents_leaves_the_documents(docs: Path) -> None:
    for directory in (".", "mixed"):
        seen = found(corpus_of(parse([".", "--adapter", f"lancedb://{directory}"])), docs)
        assert (seen["a.txt"], seen["mixed/c.txt"]) == ("Item", "Item")
    # A folder with the name of the adapter's own is left out as far as the adapter's parts are in it.
    part = docs / "staging/none/task"
    (part / "chunks.lance/_versions").mkdir(parents=True)
    assert found(corpus_of(parse(["staging", "--adapter", "lancedb://."])), docs) == {
        "staging/b.txt": "Item",
        "staging/none/task": "engine-output",
    }


def test_a_run_marks_its_directory_and_that_of_all_shards(tmp_path: Path) -> None:
    for folder in (tmp_path / "one", tmp_path / "fleet/shards/1-of-3"):
        claim(folder).release()
    (tmp_path / "fleet/logs").mkdir()
    (tmp_path / "fleet/logs/0.out").write_text("x")
    assert found(Corpus([str(tmp_path)]), tmp_path) == {"one": "engine-output", "fleet": "engine-output"}


def test_a_cache_is_marked_by_whoever_makes_it_and_one_that_was_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    for name in ("cache", "shared"):
        monkeypatch.setenv("VECTOR_ENGINE_CACHE", f"{tmp_path}/{name}")
        remember("choices/model", "{}")
    assert found(Corpus([str(tmp_path)]), tmp_path) == {
        "cache": "engine-output",
        "shared/choices/model": "Item",
    }


def test_a_folder_shards_of_a_user_makes_no_run_directory_of_what_is_above_it(docs: Path) -> None:
    claim(docs / "shards/mine").release()
    assert found(Corpus([str(docs)]), docs)["a.txt"] == "Item"
    assert found(Corpus([str(docs)]), docs)["shards/mine"] == "engine-output"


@pytest.mark.parametrize("options", [["."], [".."], [".", "--shard", "0/2"]])
def test_an_input_in_the_run_directory_is_refused(docs: Path, options: list[str]) -> None:
    config = parse(["a.txt", "--run-dir", *options])
    with pytest.raises(UsageError, match=r"--run-dir .*: INPUT .*/docs/a.txt lies in it, .* name another"):
        check_corpus(config)


def test_the_shards_share_what_is_left_out(docs: Path) -> None:
    whole = [each.uri for each in Corpus([str(docs)])]
    shards = [[each.uri for each in Corpus([str(docs)], rules=Rules(shard=(i, 3)))] for i in range(3)]
    assert sorted(itertools.chain(*shards)) == sorted(whole)


def test_listing_loads_no_database(docs: Path) -> None:
    assert any(isinstance(each, Item) for each in Corpus([str(docs)]))
    code = "import sys; from engine.sources import Corpus; list(Corpus(sys.argv[1:])); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(docs)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"lancedb", "elasticsearch", "pathspec"} & set(loaded)
