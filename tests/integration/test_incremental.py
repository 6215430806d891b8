"""What becomes of files that change, move, vanish or are hard to reach, between two runs and within one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.runs import HANG_S, Corpus, Result, same_vectors, wait_until
from tests.integration.test_run import PROSE, undisturbed

#: Lines of a file that takes a parser a second or so, and this model some more.
LONG = 40_000
SLOW_MODEL = "stand-in:16@400000"

#: Takes from root, for one command, what lets it pass over the permissions of files.
ORDINARY = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
     "--inh-caps=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Four short texts, one of them in a folder."""
    corpus = Corpus(tmp_path)
    for name in ("a.txt", "b.txt", "c.txt", "folder/d.txt"):
        corpus.write(name, f"{name}: {PROSE}")
    return corpus


def sources(corpus: Corpus) -> list[str]:
    """The files that have records, as paths below the corpus."""
    found = {os.path.relpath(str(record["source"]), corpus.files) for record in corpus.records().values()}
    return sorted(found)


def failures(result: Result) -> dict[str, str]:
    """The reason of each failure by the file's or folder's name."""
    lines = result.lines("failures.jsonl")
    return {
        os.path.basename(str(line["source"])): f"{line['error_type']}: {line['message']}" for line in lines
    }


def ended(corpus: Corpus, process: psutil.Popen) -> Result:
    """Wait for a run that `Corpus.started` began."""
    code = process.wait(HANG_S)
    return Result(code, "", process.stderr.read(), corpus.run_dir)


def run_as_ordinary_user(corpus: Corpus, *options: str) -> Result:
    """A run that may read only what the permissions of the files let it."""
    command = [*ORDINARY, *corpus.command(*options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    return Result(done.returncode, done.stdout, done.stderr, corpus.run_dir)


def told(corpus: Corpus, name: str) -> int:
    """The figure of that name in what the run tells of itself; 0 while it tells nothing."""
    try:
        text = (corpus.run_dir / "status.json").read_text()
    except FileNotFoundError:
        return 0
    match = re.search(rf'"{name}": (\d+)', text)
    return int(match[1]) if match else 0


@contextmanager
def parser_held(corpus: Corpus, process: psutil.Popen) -> Iterator[None]:
    """The only parser is stopped before it has read anything, for the length of the block."""
    log = corpus.run_dir / "run.log"
    parsers: list[int] = []

    def started() -> bool:
        found = re.findall(r"parser-0 started, process (\d+)", log.read_text()) if log.exists() else []
        children = {child.pid for child in process.children()}
        parsers[:] = [int(pid) for pid in found if int(pid) in children]
        return bool(parsers)

    wait_until(started)
    (parser,) = parsers
    os.kill(parser, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(parser, signal.SIGCONT)
    assert process.poll() is None


# Between two runs


def test_a_renamed_file_is_embedded_anew_and_its_old_records_stay_until_pruned(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    (corpus.files / "a.txt").rename(corpus.files / "renamed.txt")
    result = corpus.run()
    assert (result.code, result.files) == (0, {"discovered": 4, "indexed": 1, "unchanged": 3})
    assert sources(corpus) == ["a.txt", "b.txt", "c.txt", "folder/d.txt", "renamed.txt"]
    pruned = corpus.run("--prune")
    assert (pruned.code, pruned.files) == (0, {"discovered": 4, "unchanged": 4, "removed": 1})
    assert sources(corpus) == ["b.txt", "c.txt", "folder/d.txt", "renamed.txt"]
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_renamed_folder_is_so_for_each_of_its_files(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    (corpus.files / "folder").rename(corpus.files / "moved")
    result = corpus.run("--prune")
    assert result.files == {"discovered": 4, "indexed": 1, "unchanged": 3, "removed": 1}
    assert sources(corpus) == ["a.txt", "b.txt", "c.txt", "moved/d.txt"]


def test_a_file_that_became_a_folder_and_a_folder_that_became_a_file(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    (corpus.files / "a.txt").unlink()
    corpus.write("a.txt/inside.txt", "what is inside")
    shutil.rmtree(corpus.files / "folder")
    corpus.write("folder", "a folder no more")
    result = corpus.run()
    assert (result.code, result.files) == (0, {"discovered": 4, "indexed": 2, "unchanged": 2})
    # What was there has left the corpus: its records stay, as those of any removed file.
    new = ["a.txt/inside.txt", "b.txt", "c.txt", "folder"]
    assert sources(corpus) == sorted([*new, "a.txt", "folder/d.txt"])
    pruned = corpus.run("--prune")
    assert (pruned.code, pruned.files) == (0, {"discovered": 4, "unchanged": 4, "removed": 2})
    assert sources(corpus) == new


def test_a_file_that_came_back_to_what_it_was_has_its_first_records(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    before = corpus.records()
    text = (corpus.files / "a.txt").read_text()
    corpus.write("a.txt", "something else for a while")
    assert corpus.run().code == 0
    corpus.write("a.txt", text)
    assert corpus.run().files == {"discovered": 4, "indexed": 1, "unchanged": 3}
    assert same_vectors(before, corpus.records())


def test_an_emptied_file_loses_its_records(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    corpus.write("a.txt", "")
    assert corpus.run().files == {"discovered": 4, "skipped": 1, "unchanged": 3}
    assert sources(corpus) == ["b.txt", "c.txt", "folder/d.txt"]


def test_other_chunks_never_leave_the_database_without_the_old_or_the_new_records(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    for number in range(10):
        corpus.write(f"{number}.txt", "".join(f"{number}, {i}: {PROSE}" for i in range(150)))
    assert corpus.run().code == 0
    old = corpus.records()
    other = Corpus.__new__(Corpus)
    other.root, other.files = tmp_path / "other", corpus.files
    assert other.run("--chunk-size", "32").code == 0
    new = other.records()
    assert not old.keys() & new.keys()

    def by_source(records: dict[str, dict[str, object]]) -> dict[object, set[str]]:
        found = defaultdict(set)
        for key, record in records.items():
            found[record["source"]].add(key)
        return found

    olds, news = by_source(old), by_source(new)

    def renewed() -> int:
        """Files whose new records are there; each of the others must have all its old ones."""
        present = corpus.records().keys()
        done = {source for source, ids in news.items() if ids <= present}
        assert all(olds[source] <= present for source in olds.keys() - done)
        return len(done)

    for files in (1, 6):
        with corpus.started("--chunk-size", "32", text_model="stand-in:16@8000") as process:
            while renewed() < files:
                assert process.poll() is None, "it ended before it could be killed"
        renewed()
    result = corpus.run("--chunk-size", "32")
    assert result.code == 0, result.err
    assert same_vectors(corpus.records(), new)


# Within a run


def append_until(path: Path, stop: threading.Event) -> None:
    """Write to the end of the file, some twenty times a second."""
    with path.open("a", encoding="utf-8") as file:
        while not stop.wait(0.05):
            file.write("One more line. ")
            file.flush()


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """Somebody appends to the file, for the length of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=append_until, args=(path, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_file_that_grows_while_it_is_read_is_read_again_as_it_is_then(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    path = corpus.write("log.txt", "".join(f"{i}: {PROSE}" for i in range(LONG)))
    size = path.stat().st_size
    with corpus.started("--workers", "1", text_model=SLOW_MODEL) as process:
        with writer(path):
            # It was read to its end, and is on its way to the database.
            wait_until(lambda: told(corpus, "bytes_read"))
        result = ended(corpus, process)
    assert result.code == 0, result.err
    assert result.files == {"discovered": 1, "indexed": 1}
    assert result.summary["bytes_read"] > 2 * size, "it was not read again"
    assert corpus.run().files == {"discovered": 1, "unchanged": 1}
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_file_that_never_stops_growing_has_failed_until_it_does(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    path = corpus.write("log.txt", "".join(f"{i}: {PROSE}" for i in range(LONG // 2)))
    corpus.write("note.txt", "a note")
    with writer(path):
        result = corpus.run("--workers", "1")
    assert result.code == 3, result.err
    assert failures(result) == {
        "log.txt": "changed-while-read: it changed during each of 3 attempts",
    }
    assert result.files["discovered"] == 2
    assert result.files["indexed"] == 1
    result = corpus.run()
    assert (result.code, result.lines("failures.jsonl")) == (0, [])
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_a_file_that_vanishes_between_listing_and_reading_has_failed_and_is_forgotten(
    corpus: Corpus,
) -> None:
    with corpus.started("--workers", "1") as process:
        with parser_held(corpus, process):
            wait_until(lambda: told(corpus, "discovered") == 4)
            (corpus.files / "b.txt").unlink()
        result = ended(corpus, process)
    assert (result.code, result.files) == (3, {"discovered": 4, "indexed": 3, "failed": 1})
    assert failures(result) == {"b.txt": "unreadable: no such file or directory"}
    again = corpus.run("--prune")
    assert (again.code, again.files) == (0, {"discovered": 3, "unchanged": 3, "removed": 1})
    assert again.lines("failures.jsonl") == []
    assert sources(corpus) == ["a.txt", "c.txt", "folder/d.txt"]


def test_a_folder_that_vanishes_during_the_walk_is_told_and_nothing_is_pruned(tmp_path: Path) -> None:
    # The walk waits where 256 files do, in the middle of a listing.
    corpus = Corpus(tmp_path)
    for number in range(400):
        corpus.write(f"{number}.txt", f"note {number}")
        if number % 10 == 0:
            corpus.write(f"folder {number}/inside.txt", f"inside {number}")
    gone = corpus.write("gone.txt", "a note of the first run")
    assert corpus.run("--include", "gone.txt").code == 0
    gone.unlink()
    with corpus.started("--prune", "--workers", "1") as process:
        with parser_held(corpus, process):
            wait_until(lambda: told(corpus, "discovered") >= 256)
            for folder in corpus.files.glob("folder *"):
                shutil.rmtree(folder)
        result = ended(corpus, process)
    assert result.code == 3, result.err
    reasons = failures(result)
    assert set(reasons.values()) == {"unreadable: no such file or directory"}
    assert any(name.startswith("folder ") for name in reasons), "the walk had met every folder before"
    assert result.files["indexed"] == 400
    assert result.files["failed"] == len(result.lines("failures.jsonl"))
    assert "removed" not in result.files
    assert "gone.txt" in sources(corpus)
    again = corpus.run("--prune")
    assert (again.code, again.files["unchanged"]) == (0, 400)
    assert sources(corpus) == sorted(f"{number}.txt" for number in range(400))


# Hard to reach


def test_what_may_not_be_read_has_failed_and_keeps_its_records_until_it_may(corpus: Corpus) -> None:
    assert corpus.run().code == 0
    before = corpus.records()
    corpus.write("new.txt", "never seen before")
    locked = [corpus.files / name for name in ("a.txt", "new.txt", "folder")]
    for path in locked:
        path.chmod(0)
    os.utime(locked[0], (1, 1))
    try:
        result = run_as_ordinary_user(corpus, "--prune")
    finally:
        for path in locked:
            path.chmod(0o755)
    assert (result.code, result.files) == (3, {"discovered": 5, "failed": 3, "unchanged": 2})
    assert failures(result) == dict.fromkeys(("a.txt", "new.txt", "folder"), "unreadable: permission denied")
    assert same_vectors(before, corpus.records())
    result = corpus.run("--prune")
    # The folder's own line goes with it: it is no file of the corpus.
    assert result.code == 0, result.err
    assert sources(corpus) == ["a.txt", "b.txt", "c.txt", "folder/d.txt", "new.txt"]
    assert same_vectors(corpus.records(), undisturbed(corpus))


def test_links_in_circles_pipes_and_sockets_are_left_out_with_their_rule(corpus: Corpus) -> None:
    (corpus.files / "itself").symlink_to("itself")
    (corpus.files / "ping").symlink_to("pong")
    (corpus.files / "pong").symlink_to("ping")
    (corpus.files / "folder/up").symlink_to("..")
    (corpus.files / "broken").symlink_to("nowhere")
    os.mkfifo(corpus.files / "pipe")
    os.mknod(corpus.files / "socket", stat.S_IFSOCK | 0o600)
    result = corpus.run()
    assert (result.code, result.files) == (0, {"discovered": 11, "indexed": 4, "skipped": 7})
    rules = {os.path.basename(str(line["source"])): line["rule"] for line in result.lines("skipped.jsonl")}
    assert rules == {
        "itself": "symlink-loop",
        "ping": "symlink-loop",
        "pong": "symlink-loop",
        "up": "symlink-to-folder",
        "broken": "broken-symlink",
        "pipe": "special-file",
        "socket": "special-file",
    }


def test_a_file_by_several_paths_is_as_many_files(corpus: Corpus, tmp_path: Path) -> None:
    os.link(corpus.files / "a.txt", corpus.files / "hard.txt")
    (corpus.files / "soft.txt").symlink_to("a.txt")
    (tmp_path / "again").symlink_to(corpus.files)
    result = corpus.run(str(tmp_path / "again"))
    assert (result.code, result.files) == (0, {"discovered": 12, "indexed": 12})
    names = ["a.txt", "b.txt", "c.txt", "folder/d.txt", "hard.txt", "soft.txt"]
    assert sources(corpus) == sorted([*names, *(f"../again/{name}" for name in names)])
    # The one that is removed is that path alone.
    (corpus.files / "hard.txt").unlink()
    pruned = corpus.run(str(tmp_path / "again"), "--prune")
    assert pruned.files == {"discovered": 10, "unchanged": 10, "removed": 2}
    names.remove("hard.txt")
    assert sources(corpus) == sorted([*names, *(f"../again/{name}" for name in names)])


def test_inputs_that_overlap_give_each_path_one_state(corpus: Corpus) -> None:
    corpus.write(".hidden", "hidden")
    corpus.write("folder/.hidden", "hidden as well")
    corpus.write("folder/x.tmp", "excluded")
    corpus.write("folder/empty.txt", "")
    os.mkfifo(corpus.files / "folder/pipe")
    more = [str(corpus.files / name) for name in ("folder", "folder/d.txt", "a.txt", "../corpus")]
    expected = {"discovered": 9, "indexed": 4, "skipped": 5}
    result = corpus.run(*more, "--exclude", "*.tmp")
    assert (result.code, result.files) == (0, expected)
    left_out = [line["source"] for line in result.lines("skipped.jsonl")]
    assert len(left_out) == len(set(left_out)) == 5
    (corpus.root / "list").write_text("".join(f"{name}\n" for name in [*more, *more, str(corpus.files)]))
    again = corpus.run(*more, "--exclude", "*.tmp", "--files-from", str(corpus.root / "list"))
    assert (again.code, again.files) == (0, {"discovered": 9, "unchanged": 4, "skipped": 5})
