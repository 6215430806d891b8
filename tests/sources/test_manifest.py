"""A list names items of any source, one a line; each comes once, and gives way to the inputs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.sources import Corpus
from engine.sources.base import Found, Rules
from tests.sources.contract import LocalContract
from tests.sources.test_local import corpus_of, files, fill, found


class TestContract(LocalContract):
    """A list of what lies in the folder, by whose lines its files and folders are found."""

    def listing(self, rules: Rules) -> Iterator[Found]:
        folder = os.fsencode(self.place) + b"/corpus/"
        (self.place / "list").write_bytes(b"".join(folder + name + b"\n" for name in os.listdir(folder)))
        self._corpus = Corpus([], f"{self.place}/list", rules)
        return iter(self._corpus)

    def was_complete(self) -> bool:
        return self._corpus.complete


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return folder


def test_a_list_names_files_and_folders_one_a_line(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt", "folder/b.txt", "folder/.hidden", "with space.txt")
    (corpus / "list").write_bytes(b"a.txt\r\n\nfolder\nwith space.txt\n" + os.fsencode(corpus) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9")).write_text("x")
    monkeypatch.chdir(corpus)
    assert found(corpus_of([], files_from="list"), corpus) == {
        "a.txt": "file",
        "folder/b.txt": "file",
        "folder/.hidden": "hidden",
        "with space.txt": "file",
        "caf%E9": "file",
    }


def test_a_byte_order_mark_is_no_part_of_a_path(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt", "b.txt")
    (corpus / "list").write_bytes(b"\xef\xbb\xbfa.txt\r\nb.txt\r\n")
    monkeypatch.chdir(corpus)
    assert found(corpus_of([], files_from="list"), corpus) == {"a.txt": "file", "b.txt": "file"}


def test_a_dash_reads_the_list_from_standard_input(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(corpus, "a.txt")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{corpus}/a.txt\n{corpus}/gone".encode())))
    discovery = corpus_of([], files_from="-")
    assert found(discovery, corpus) == {"a.txt": "file", "gone": "unreadable"}


def test_patterns_leave_out_files_of_a_list_but_not_its_folders(corpus: Path) -> None:
    fill(corpus, "a.txt", "a.md", "folder/b.txt", "folder/c.md")
    (corpus.parent / "list").write_text(f"{corpus}/a.txt\n{corpus}/a.md\n{corpus}/folder\n")
    discovery = corpus_of([], files_from=str(corpus.parent / "list"), include=["*.txt"])
    assert files(discovery) == [f"{corpus}/a.txt", f"{corpus}/folder/b.txt"]


def test_a_list_with_nul_bytes_is_refused_in_words(corpus: Path) -> None:
    (corpus / "list").write_bytes(b"a.txt\0b.txt\0")
    with pytest.raises(UsageError, match="line 1 holds a NUL byte; give one path a line"):
        list(corpus_of([], files_from=str(corpus / "list")))


def test_a_list_that_vanished_is_refused_in_words(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"--files-from .*gone: no such file"):
        list(corpus_of([], files_from=str(corpus / "gone")))


def test_a_list_gives_way_to_the_inputs_and_to_its_own_earlier_lines(corpus: Path) -> None:
    fill(corpus, "in/a.txt", "in/.b", "in/deep/c.txt", "out/d.txt", "out/.e", "out/f.tmp", "in/.g/h.txt")
    lines = ["in/a.txt", "in/.b", "in/deep", "in", "out", "out/.e", "out/f.tmp", "out", "out/d.txt", "in/.g"]
    (corpus / "list").write_text("".join(f"{corpus}/{line}\n" for line in lines))
    discovery = corpus_of([f"{corpus}/in"], f"{corpus}/list", exclude=["*.tmp"])
    assert [os.path.relpath(item.uri, corpus) for item in discovery if "/in/" in item.uri][-1:] == [
        "in/.g/h.txt"
    ]
    items = list(discovery)
    assert len(items) == len({item.uri for item in items})
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
    assert [item.uri for item in corpus_of([], f"{corpus}/list")] == [f"{corpus}/x%FF.txt"] * 2
