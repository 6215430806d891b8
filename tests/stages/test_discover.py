"""Each path of a corpus is found once, lazily, with the rule by which it is left out."""

from __future__ import annotations

import io
import itertools
import os
import socket
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.records import source_of
from engine.stages.discover import (
    Discovery,
    Found,
    FoundFile,
    LeftOut,
    Unreadable,
    check_inputs,
    modified_ns,
    shard_of,
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def found(discovery: Discovery, root: Path) -> dict[str, str]:
    """Each path below the root with what became of it."""
    return {
        os.path.relpath(item.source, root): "file" if isinstance(item, FoundFile) else word(item)
        for item in discovery
    }


def word(item: Found) -> str:
    return item.rule if isinstance(item, LeftOut) else "unreadable"


def files(discovery: Discovery) -> list[str]:
    return sorted(item.path for item in discovery if isinstance(item, FoundFile))


# What is found


def test_a_file_comes_with_its_size_and_time(corpus: Path) -> None:
    fill(corpus, "a.txt")
    os.utime(corpus / "a.txt", ns=(1, 1234567890123456789))
    (item,) = Discovery([str(corpus)])
    assert item == FoundFile(f"{corpus}/a.txt", f"{corpus}/a.txt", 5, 1234567890123456789)


def test_folders_are_walked_whole_and_hidden_ones_left_out_as_one(corpus: Path) -> None:
    fill(corpus, "a.txt", "deep/er/b.txt", ".git/config", ".git/objects/x", "deep/.env")
    assert found(Discovery([str(corpus)]), corpus) == {
        "a.txt": "file",
        "deep/er/b.txt": "file",
        ".git": "hidden",
        "deep/.env": "hidden",
    }


def test_hidden_files_are_taken_where_they_are_asked_for_or_named(corpus: Path) -> None:
    fill(corpus, ".git/config", ".env")
    assert files(Discovery([str(corpus)], hidden=True)) == [f"{corpus}/.env", f"{corpus}/.git/config"]
    assert files(Discovery([f"{corpus}/.env"])) == [f"{corpus}/.env"]


def test_patterns_fit_the_path_below_the_input_or_the_name_alone(corpus: Path) -> None:
    fill(corpus, "a.txt", "a.tmp", "build/out.txt", "deep/build/out.txt", "deep/c.md", "deep/d.txt")
    discovery = Discovery([str(corpus)], include=["*.txt"], exclude=["build", "deep/d.*"])
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
    assert files(Discovery([str(corpus)], include=["*.txt"])) == [f"{corpus}/b.txt"]


def test_links_to_files_are_followed_and_links_to_folders_are_not(corpus: Path, tmp_path: Path) -> None:
    fill(tmp_path, "elsewhere/a.txt")
    (corpus / "file").symlink_to(tmp_path / "elsewhere/a.txt")
    (corpus / "folder").symlink_to(tmp_path / "elsewhere")
    assert found(Discovery([str(corpus)]), corpus) == {"file": "file", "folder": "symlink-to-folder"}


def test_a_link_to_a_folder_that_is_itself_an_input_is_walked(corpus: Path, tmp_path: Path) -> None:
    fill(corpus, "a.txt")
    (tmp_path / "link").symlink_to(corpus)
    assert files(Discovery([str(tmp_path / "link")])) == [f"{tmp_path}/link/a.txt"]


def test_links_that_lead_nowhere_or_round_in_circles_end_the_walk_nowhere(corpus: Path) -> None:
    fill(corpus, "a.txt")
    (corpus / "loop").symlink_to(corpus / "loop")
    (corpus / "up").symlink_to(corpus)
    (corpus / "broken").symlink_to(corpus / "gone")
    (corpus / "through").symlink_to(corpus / "a.txt" / "below")
    discovery = Discovery([str(corpus)])
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
    discovery = Discovery([str(corpus)])
    assert found(discovery, corpus) == {"link": "unreadable"}
    assert not discovery.complete


def test_pipes_and_sockets_are_special_files_that_nobody_opens(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(corpus / "pipe")
    monkeypatch.chdir(corpus)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert found(Discovery([str(corpus)]), corpus) == {"pipe": "special-file", "socket": "special-file"}


def test_names_that_are_not_utf8_keep_their_bytes_in_the_path_and_are_escaped_in_the_source(
    corpus: Path,
) -> None:
    name = os.fsencode(corpus) + b"/caf\xe9.txt"
    Path(os.fsdecode(name)).write_text("x")
    (item,) = Discovery([str(corpus)])
    assert isinstance(item, FoundFile)
    assert os.fsencode(item.path) == name
    assert item.source == f"{corpus}/caf%E9.txt"
    item.source.encode()


def test_times_beyond_what_the_ledger_holds_are_brought_within_it() -> None:
    class Status:
        def __init__(self, st_mtime_ns: int) -> None:
            self.st_mtime_ns = st_mtime_ns

    times = [modified_ns(Status(ns)) for ns in (2**70, -(2**70), -5, 7)]  # type: ignore[arg-type]
    assert times == [2**63 - 1, -(2**63 - 1), -5, 7]


# What can't be read


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, path: str) -> None:
    """Make the system say no, as it does to all but root."""
    real = getattr(os, call)

    def fail(name: str, *args: object, **options: object) -> object:
        if name == path:
            raise PermissionError(13, "Permission denied", name)
        return real(name, *args, **options)

    monkeypatch.setattr(os, call, fail)


def test_a_folder_that_can_not_be_listed_is_told_and_the_rest_goes_on(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(corpus, "a.txt", "locked/b.txt", "open/c.txt")
    refuse(monkeypatch, "scandir", f"{corpus}/locked")
    discovery = Discovery([str(corpus)])
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
    discovery = Discovery([str(corpus)])
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
    (failure,) = [item for item in Discovery([str(corpus)]) if isinstance(item, Unreadable)]
    assert failure == Unreadable(f"{corpus}/b.txt", "permission denied")


def test_an_input_that_vanished_after_the_check_is_told(corpus: Path) -> None:
    discovery = Discovery([f"{corpus}/gone"])
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
            os.write(writer, repr(sorted(found(Discovery([str(corpus)]), corpus).items())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    told = os.read(reader, 10_000).decode()
    os.close(reader)
    os.waitpid(child, 0)
    (corpus / "locked").chmod(0o755)
    assert told == "[('a.txt', 'file'), ('locked', 'unreadable')]"


# Lists of files


def test_a_list_names_files_and_folders_one_a_line(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt", "folder/b.txt", "folder/.hidden", "with space.txt")
    (corpus / "list").write_bytes(b"a.txt\r\n\nfolder\nwith space.txt\n" + os.fsencode(corpus) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9")).write_text("x")
    monkeypatch.chdir(corpus)
    assert found(Discovery([], files_from="list"), corpus) == {
        "a.txt": "file",
        "folder/b.txt": "file",
        "folder/.hidden": "hidden",
        "with space.txt": "file",
        "caf%E9": "file",
    }


def test_a_dash_reads_the_list_from_standard_input(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{corpus}/a.txt\n{corpus}/gone".encode())))
    discovery = Discovery([], files_from="-")
    assert found(discovery, corpus) == {"a.txt": "file", "gone": "unreadable"}


def test_patterns_leave_out_files_of_a_list_but_not_its_folders(corpus: Path) -> None:
    fill(corpus, "a.txt", "a.md", "folder/b.txt", "folder/c.md")
    (corpus.parent / "list").write_text(f"{corpus}/a.txt\n{corpus}/a.md\n{corpus}/folder\n")
    discovery = Discovery([], files_from=str(corpus.parent / "list"), include=["*.txt"])
    assert files(discovery) == [f"{corpus}/a.txt", f"{corpus}/folder/b.txt"]


def test_a_list_with_nul_bytes_is_refused_in_words(corpus: Path) -> None:
    (corpus / "list").write_bytes(b"a.txt\0b.txt\0")
    with pytest.raises(UsageError, match="line 1 holds a NUL byte; give one path a line"):
        list(Discovery([], files_from=str(corpus / "list")))


def test_a_list_that_vanished_is_refused_in_words(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"--files-from .*gone: no such file"):
        list(Discovery([], files_from=str(corpus / "gone")))


# Shards


def test_shards_share_the_files_of_inputs_and_lists_without_loss_or_overlap(corpus: Path) -> None:
    fill(corpus, *(f"{i % 7}/{i}.txt" for i in range(60)), *(f".{i}" for i in range(20)))
    (corpus.parent / "list").write_text("".join(f"{corpus}/{i}\n" for i in range(7)))
    for inputs, files_from in (([str(corpus)], None), ([], str(corpus.parent / "list"))):
        whole = Counter(item.source for item in Discovery(inputs, files_from))
        parts = [
            Counter(item.source for item in Discovery(inputs, files_from, shard=(i, 3))) for i in range(3)
        ]
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
            items = Counter(item.source for item in Discovery(inputs, exclude=exclude))
            assert set(items.values()) == {1}
            assert found(Discovery(inputs, exclude=exclude), corpus) == {
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
    assert files(Discovery([inner, outer], exclude=["er/b.*"])) == [f"{inner}/a.txt", f"{inner}/er/c.txt"]
    assert len(files(Discovery([outer, inner], exclude=["er/b.*"]))) == 3
    # The outer input leaves the inner one's folder out, or does not get there: it is the inner one's alone.
    for exclude in (["deep"], ["deep/er"]):
        assert len(files(Discovery([outer, inner], exclude=exclude))) == 3


def test_what_is_named_is_taken_although_another_input_would_leave_it_out(corpus: Path) -> None:
    fill(corpus, ".env", ".git/config", ".git/.hidden", "real/a.txt")
    (corpus / "link").symlink_to(corpus / "real")
    names = [str(corpus), f"{corpus}/.env", f"{corpus}/.git", f"{corpus}/link"]
    for inputs in itertools.permutations(names):
        assert found(Discovery(inputs), corpus) == {
            ".env": "file",
            ".git/config": "file",
            ".git/.hidden": "hidden",
            "real/a.txt": "file",
            "link/a.txt": "file",
        }
        assert len(list(Discovery(inputs))) == 5


def test_a_link_between_an_input_and_a_path_makes_it_another_path(corpus: Path) -> None:
    fill(corpus, "real/sub/a.txt")
    (corpus / "link").symlink_to(corpus / "real")
    assert files(Discovery([str(corpus), f"{corpus}/link/sub"])) == [
        f"{corpus}/link/sub/a.txt",
        f"{corpus}/real/sub/a.txt",
    ]


def test_a_list_gives_way_to_the_inputs_and_to_its_own_earlier_lines(corpus: Path) -> None:
    fill(corpus, "in/a.txt", "in/.b", "in/deep/c.txt", "out/d.txt", "out/.e", "out/f.tmp", "in/.g/h.txt")
    lines = ["in/a.txt", "in/.b", "in/deep", "in", "out", "out/.e", "out/f.tmp", "out", "out/d.txt", "in/.g"]
    (corpus / "list").write_text("".join(f"{corpus}/{line}\n" for line in lines))
    discovery = Discovery([f"{corpus}/in"], f"{corpus}/list", exclude=["*.tmp"])
    assert [os.path.relpath(item.source, corpus) for item in discovery if "/in/" in item.source][-1:] == [
        "in/.g/h.txt"
    ]
    items = list(discovery)
    assert len(items) == len({item.source for item in items})
    assert found(discovery, corpus) == {
        "in/a.txt": "file",
        "in/.b": "hidden",
        "in/.g": "hidden",
        "in/.g/h.txt": "file",
        "in/deep/c.txt": "file",
        "out/d.txt": "file",
        "out/.e": "hidden",
        "out/f.tmp": "excluded",
    }


def test_names_of_a_list_that_come_out_as_one_source_are_both_found(corpus: Path) -> None:
    names = [os.fsencode(corpus) + name for name in (b"/x%FF.txt", b"/x\xff.txt")]
    for name in names:
        Path(os.fsdecode(name)).write_text("x")
    (corpus / "list").write_bytes(b"\n".join(names))
    assert [item.source for item in Discovery([], f"{corpus}/list")] == [f"{corpus}/x%FF.txt"] * 2


def test_a_folder_of_two_inputs_that_can_not_be_listed_is_told_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(corpus, "deep/locked/a.txt", "deep/b.txt")
    refuse(monkeypatch, "scandir", f"{corpus}/deep/locked")
    for exclude in (["*.tmp"], []):
        discovery = Discovery([str(corpus), f"{corpus}/deep"], exclude=exclude)
        assert sorted(word(item) for item in discovery if not isinstance(item, FoundFile)) == ["unreadable"]
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
    monkeypatch.setattr(os, "stat", lambda name: here)
    walk = Discovery([str(corpus)])._walk(str(corpus))
    assert isinstance(next(walk), FoundFile)
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
    walk = iter(Discovery([str(corpus)]))
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
