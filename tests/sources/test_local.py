"""Each path of a corpus is found once, lazily, with the rule by which it is left out."""

from __future__ import annotations

import itertools
import os
import socket
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.records import source_of
from engine.sources import Corpus, check_inputs
from engine.sources.base import Found, Item, LeftOut, Rules, Unreadable, shard_of
from engine.sources.local import LocalListing, item_of, local_item
from tests.sources.contract import LocalContract, refuse


def corpus_of(inputs: Sequence[str], files_from: str | None = None, **rules: object) -> Corpus:
    return Corpus(inputs, files_from, Rules(**rules))  # type: ignore[arg-type]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def found(discovery: Corpus, root: Path) -> dict[str, str]:
    """Each path below the root with what became of it."""
    return {
        os.path.relpath(item.uri, root): "file" if isinstance(item, Item) else word(item)
        for item in discovery
    }


def word(item: Found) -> str:
    return item.rule if isinstance(item, LeftOut) else "unreadable"


def files(discovery: Corpus) -> list[str]:
    return sorted(item.location for item in discovery if isinstance(item, Item))


class TestContract(LocalContract):
    def listing(self, rules: Rules) -> Iterator[Found]:
        self._listing = LocalListing([f"{self.place}/corpus"], rules)
        return iter(self._listing)

    def was_complete(self) -> bool:
        return self._listing.complete


# What is found


def test_a_file_comes_with_its_size_and_time(corpus: Path) -> None:
    fill(corpus, "a.txt")
    os.utime(corpus / "a.txt", ns=(1, 1234567890123456789))
    (item,) = corpus_of([str(corpus)])
    time_ns = 1234567890123456789
    status = os.stat(corpus / "a.txt")
    version = f"{time_ns};{status.st_ctime_ns};{status.st_ino}"
    assert item == Item(f"{corpus}/a.txt", 5, version, time_ns, f"{corpus}/a.txt")


def test_other_content_of_the_same_size_and_time_is_another_version(corpus: Path) -> None:
    path = corpus / "a.txt"

    def put(text: str) -> Item:
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        return local_item(str(path))

    before = put("one")
    while (after := put("two")).version == before.version:
        pass  # until the clock of the file system has moved
    assert (before.mtime_ns, before.size) == (after.mtime_ns, after.size)
    assert not after.same_content(before.size, before.version)
    # Moved over it, with all of its times as they were: the inode tells.
    put("one")
    other = corpus / "other"
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    before = local_item(str(path))
    other.replace(path)
    assert not local_item(str(path)).same_content(before.size, before.version)


def test_a_version_of_which_less_was_known_is_compared_by_that(corpus: Path) -> None:
    fill(corpus, "a.txt")
    os.utime(corpus / "a.txt", ns=(1, 7))
    item = local_item(f"{corpus}/a.txt")
    assert item.same_content(5, "7")
    assert not item.same_content(5, "8")
    assert not item.same_content(6, "7")
    assert not replace(item, version="7").same_content(5, "8;1;2")


def test_folders_are_walked_whole_and_hidden_ones_left_out_as_one(corpus: Path) -> None:
    fill(corpus, "a.txt", "deep/er/b.txt", ".git/config", ".git/objects/x", "deep/.env")
    assert found(corpus_of([str(corpus)]), corpus) == {
        "a.txt": "file",
        "deep/er/b.txt": "file",
        ".git": "excluded-by-default",
        "deep/.env": "hidden",
    }


def test_hidden_files_are_taken_where_they_are_asked_for_or_named(corpus: Path) -> None:
    fill(corpus, ".github/config", ".env")
    assert files(corpus_of([str(corpus)], hidden=True)) == [f"{corpus}/.env", f"{corpus}/.github/config"]
    assert files(corpus_of([f"{corpus}/.env"])) == [f"{corpus}/.env"]


def test_patterns_fit_the_path_below_the_input_or_the_name_alone(corpus: Path) -> None:
    fill(corpus, "a.txt", "a.tmp", "build/out.txt", "deep/build/out.txt", "deep/c.md", "deep/d.txt")
    discovery = corpus_of([str(corpus)], include=["*.txt"], exclude=["build", "deep/d.*"])
    assert found(discovery, corpus) == {
        "a.txt": "file",
        "a.tmp": "not-included",
        "build": "excluded",
        "deep/build": "excluded",
        "deep/c.md": "not-included",
        "deep/d.txt": "excluded",
    }


def test_patterns_tell_upper_from_lower_case(corpus: Path) -> None:
    fill(corpus, "a.TXT", "b.txt")
    assert files(corpus_of([str(corpus)], include=["*.txt"])) == [f"{corpus}/b.txt"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(corpus: Path, tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/a.txt")
    (corpus / "file").symlink_to(tmp_path / "elsewhere/a.txt")
    (corpus / "folder").symlink_to(tmp_path / "elsewhere")
    assert found(corpus_of([str(corpus)]), corpus) == {"file": "file", "folder": "symlink-to-folder"}


def test_a_link_to_a_folder_that_is_itself_an_input_is_walked(corpus: Path, tmp_path: Path) -> None:
    fill(corpus, "a.txt")
    (tmp_path / "link").symlink_to(corpus)
    assert files(corpus_of([str(tmp_path / "link")])) == [f"{tmp_path}/link/a.txt"]


def test_links_that_lead_nowhere_or_round_in_circles_end_the_walk_nowhere(corpus: Path) -> None:
    fill(corpus, "a.txt")
    (corpus / "loop").symlink_to(corpus / "loop")
    (corpus / "up").symlink_to(corpus)
    (corpus / "broken").symlink_to(corpus / "gone")
    (corpus / "through").symlink_to(corpus / "a.txt" / "below")
    discovery = corpus_of([str(corpus)])
    assert found(discovery, corpus) == {
        "a.txt": "file",
        "loop": "symlink-loop",
        "up": "symlink-to-folder",
        "broken": "broken-symlink",
        "through": "broken-symlink",
    }
    assert discovery.complete


def test_a_link_whose_target_can_not_be_looked_at_is_a_failure(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "link").symlink_to(corpus / "locked")
    refuse(monkeypatch, "stat", f"{corpus}/link")
    discovery = corpus_of([str(corpus)])
    assert found(discovery, corpus) == {"link": "unreadable"}
    assert not discovery.complete


def test_pipes_and_sockets_are_special_files_that_nobody_opens(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(corpus / "pipe")
    monkeypatch.chdir(corpus)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert found(corpus_of([str(corpus)]), corpus) == {"pipe": "special-file", "socket": "special-file"}


def test_names_that_are_not_utf8_keep_their_bytes_in_the_path_and_are_escaped_in_the_source(
    corpus: Path,
) -> None:
    name = os.fsencode(corpus) + b"/caf\xe9.txt"
    Path(os.fsdecode(name)).write_text("x")
    (item,) = corpus_of([str(corpus)])
    assert isinstance(item, Item)
    assert os.fsencode(item.location) == name
    assert item.uri == f"{corpus}/caf%E9.txt"
    item.uri.encode()


def test_times_beyond_what_the_ledger_holds_are_brought_within_it() -> None:
    class Status:
        st_size = 1

        st_ctime_ns = st_ino = 0

        def __init__(self, st_mtime_ns: int) -> None:
            self.st_mtime_ns = st_mtime_ns

    items = [item_of("/a", "/a", Status(ns)) for ns in (2**70, -(2**70), -5, 7)]  # type: ignore[arg-type]
    times = [item.mtime_ns for item in items]
    assert times == [2**63 - 1, -(2**63 - 1), -5, 7]
    assert items[3].version == "7;0"  # a file system without inodes


# What can't be read


def test_a_folder_that_can_not_be_listed_is_told_and_the_rest_goes_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(corpus, "a.txt", "locked/b.txt", "open/c.txt")
    refuse(monkeypatch, "scandir", f"{corpus}/locked")
    discovery = corpus_of([str(corpus)])
    assert found(discovery, corpus) == {"a.txt": "file", "locked": "unreadable", "open/c.txt": "file"}
    assert not discovery.complete


def test_a_listing_that_breaks_off_is_told_after_what_it_gave(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(corpus, "a.txt", "b/c.txt")

    class Torn:
        def __init__(self, path: str) -> None:
            self._listing = os_scandir(path)

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *_: object) -> None:
            self._listing.close()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            yield from self._listing
            raise OSError(5, "Input/output error")

    os_scandir = os.scandir
    monkeypatch.setattr(os, "scandir", Torn)
    discovery = corpus_of([str(corpus)])
    assert found(discovery, corpus) == {
        "a.txt": "file",
        "b/c.txt": "file",
        "b": "unreadable",
        ".": "unreadable",
    }
    assert not discovery.complete


def test_a_file_that_can_not_be_looked_at_is_told(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt", "b.txt")
    refuse(monkeypatch, "stat", f"{corpus}/b.txt")
    (failure,) = [item for item in corpus_of([str(corpus)]) if isinstance(item, Unreadable)]
    assert failure == Unreadable(f"{corpus}/b.txt", "permission denied")


def test_an_input_that_vanished_after_the_check_is_told(corpus: Path) -> None:
    discovery = corpus_of([f"{corpus}/gone"])
    assert found(discovery, corpus) == {"gone": "unreadable"}
    assert not discovery.complete


def test_an_ordinary_user_who_may_not_enter_a_folder_is_told_so(corpus: Path) -> None:
    fill(corpus, "a.txt", "locked/b.txt")
    for folder in (corpus, *corpus.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    (corpus / "locked").chmod(0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # as nobody, where this is root
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            os.write(writer, repr(sorted(found(corpus_of([str(corpus)]), corpus).items())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    told = os.read(reader, 10_000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    (corpus / "locked").chmod(0o755)
    assert told == "[('a.txt', 'file'), ('locked', 'unreadable')]"


# Shards


def test_shards_share_the_files_of_inputs_and_lists_without_loss_or_overlap(corpus: Path) -> None:
    fill(corpus, *(f"{i % 7}/{i}.txt" for i in range(60)), *(f".{i}" for i in range(20)))
    (corpus.parent / "list").write_text("".join(f"{corpus}/{i}\n" for i in range(7)))
    for inputs, files_from in (([str(corpus)], None), ([], str(corpus.parent / "list"))):
        whole = Counter(item.uri for item in corpus_of(inputs, files_from))
        parts = [Counter(item.uri for item in corpus_of(inputs, files_from, shard=(i, 3))) for i in range(3)]
        assert sum(parts, Counter()) == whole
        assert all(parts)
        assert set(whole.values()) == {1}


@given(st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name), st.integers(1, 1000))
def test_any_name_has_a_shard_of_its_own(name: bytes, shards: int) -> None:
    source = source_of("/" + os.fsdecode(name))
    assert 0 <= shard_of(source, shards) < shards
    assert shard_of(source, shards) == shard_of(source, shards)


def test_a_shard_depends_on_nothing_but_the_path() -> None:
    # Written down, because shards of one run may be on machines of different kinds.
    assert [shard_of(f"/corpus/{i}", 4) for i in range(8)] == [0, 2, 1, 0, 2, 2, 3, 0]


# Overlap and laziness


def test_a_path_below_several_inputs_is_found_once_whatever_becomes_of_it(corpus: Path) -> None:
    fill(corpus, "deep/a.txt", "deep/b.tmp", "deep/.c", "deep/.d/e.txt", "f.txt")
    names = [str(corpus), f"{corpus}/deep", f"{corpus}/deep/a.txt"]
    for inputs in itertools.permutations([*names, str(corpus)]):
        for exclude in (["*.tmp"], []):
            items = Counter(item.uri for item in corpus_of(inputs, exclude=exclude))
            assert set(items.values()) == {1}
            assert found(corpus_of(inputs, exclude=exclude), corpus) == {
                "deep/a.txt": "file",
                "deep/b.tmp": "excluded" if exclude else "file",
                "deep/.c": "hidden",
                "deep/.d": "hidden",
                "f.txt": "file",
            }


def test_a_path_belongs_to_the_first_input_whose_walk_reaches_it(corpus: Path) -> None:
    fill(corpus, "deep/a.txt", "deep/er/b.txt", "deep/er/c.txt")
    outer, inner = str(corpus), f"{corpus}/deep"
    # The pattern fits below the inner input only.
    assert files(corpus_of([inner, outer], exclude=["er/b.*"])) == [f"{inner}/a.txt", f"{inner}/er/c.txt"]
    assert len(files(corpus_of([outer, inner], exclude=["er/b.*"]))) == 3
    # The outer input leaves the inner one's folder out, or does not get there: it is the inner one's alone.
    for exclude in (["deep"], ["deep/er"]):
        assert len(files(corpus_of([outer, inner], exclude=exclude))) == 3


def test_what_is_named_is_taken_although_another_input_would_leave_it_out(corpus: Path) -> None:
    fill(corpus, ".env", ".git/config", ".git/.hidden", "real/a.txt")
    (corpus / "link").symlink_to(corpus / "real")
    names = [str(corpus), f"{corpus}/.env", f"{corpus}/.git", f"{corpus}/link"]
    for inputs in itertools.permutations(names):
        assert found(corpus_of(inputs), corpus) == {
            ".env": "file",
            ".git/config": "file",
            ".git/.hidden": "hidden",
            "real/a.txt": "file",
            "link/a.txt": "file",
        }
        assert len(list(corpus_of(inputs))) == 5


def test_a_link_between_an_input_and_a_path_makes_it_another_path(corpus: Path) -> None:
    fill(corpus, "real/sub/a.txt")
    (corpus / "link").symlink_to(corpus / "real")
    assert files(corpus_of([str(corpus), f"{corpus}/link/sub"])) == [
        f"{corpus}/link/sub/a.txt",
        f"{corpus}/real/sub/a.txt",
    ]


def test_a_folder_of_two_inputs_that_can_not_be_listed_is_told_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(corpus, "deep/locked/a.txt", "deep/b.txt")
    refuse(monkeypatch, "scandir", f"{corpus}/deep/locked")
    for exclude in (["*.tmp"], []):
        discovery = corpus_of([str(corpus), f"{corpus}/deep"], exclude=exclude)
        assert sorted(word(item) for item in discovery if not isinstance(item, Item)) == ["unreadable"]
        assert not discovery.complete


def test_the_first_file_comes_before_the_corpus_is_listed(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of 10,000 files whose folders are listed no sooner than they are needed."""
    names = [f"{corpus}/{i}" for i in range(100)]
    listed: list[str] = []

    class Entry:
        def __init__(self, path: str, folder: bool) -> None:
            self.path, self.name, self._folder = path, os.path.basename(path), folder

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            return self._folder

    class Listing:
        def __init__(self, path: str) -> None:
            listed.append(path)
            self._path = path

        def __enter__(self) -> Iterator[Entry]:
            if self._path == str(corpus):
                return (Entry(name, True) for name in names)
            return (Entry(f"{self._path}/{i}.txt", False) for i in range(100))

        def __exit__(self, *_: object) -> None:
            pass

    here = os.stat(__file__)
    monkeypatch.setattr(os, "scandir", Listing)
    real = os.stat
    fake = lambda name, **more: here if str(name).endswith(".txt") else real(name, **more)  # noqa: E731
    monkeypatch.setattr(os, "stat", fake)
    walk = iter(LocalListing([str(corpus)], Rules()))
    assert isinstance(next(walk), Item)
    assert len(listed) == 2
    assert sum(1 for _ in islice(walk, 150)) == 150
    assert len(listed) == 3
    tracemalloc.start()
    assert sum(1 for _ in walk) == 10_000 - 151
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000  # bytes; a list of these 10,000 files takes ten times as much


def test_a_walk_that_is_given_up_closes_its_listings(corpus: Path) -> None:
    fill(corpus, *(f"{i}/{j}.txt" for i in range(3) for j in range(3)))
    walk = iter(corpus_of([str(corpus)]))
    next(walk)
    before = len(os.listdir("/proc/self/fd"))
    del walk  # an open listing would be a warning here, and warnings are errors
    assert len(os.listdir("/proc/self/fd")) < before


# The check before a run


def test_good_inputs_pass_the_check(corpus: Path) -> None:
    fill(corpus, "a.txt", "list")
    check_inputs([str(corpus), f"{corpus}/a.txt"], f"{corpus}/list")
    check_inputs([], "-")


@pytest.mark.parametrize(
    ("inputs", "files_from", "message"),
    [
        (["gone"], None, "input gone: no such file or directory; give files or folders that exist"),
        (["pipe"], None, "input pipe: neither a file nor a folder"),
        ([], "gone", "--files-from gone: no such file, or it can't be read"),
        ([], ".", "--files-from .: a folder; give a file with one path a line, or -"),
    ],
)
def test_a_bad_input_is_named_with_what_would_do(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], files_from: str | None, message: str
) -> None:
    os.mkfifo(corpus / "pipe")
    monkeypatch.chdir(corpus)
    with pytest.raises(UsageError) as refused:
        check_inputs(inputs, files_from)
    assert str(refused.value) == message


def test_an_input_that_may_not_be_read_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda name, mode: False)
    with pytest.raises(UsageError, match="permission denied; give files or folders that can be read"):
        check_inputs([str(corpus)], None)
