"""The manifest: what is written comes back, a kill loses nothing, memory stays flat."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.fleet import listing
from engine.fleet.listing import list_corpus
from engine.fleet.manifest import MEMBER_LINES, Header, Writer, members, read, read_header
from engine.stages.discover import Discovery, Found, FoundFile, LeftOut, Unreadable

HEADER = Header(("/corpus",), include=("*.txt",))


def file(number: int) -> FoundFile:
    """A file that is nowhere."""
    return FoundFile(f"/corpus/{number}.txt", f"/corpus/{number}.txt", number, 10 * number)


def write(path: Path, found: list[Found]) -> None:
    """A finished manifest."""
    writer = Writer(path, HEADER)
    for one in found:
        writer.add(one, "text/plain")
    writer.finish()


def test_every_kind_of_path_comes_back_as_it_was(tmp_path: Path) -> None:
    strange = FoundFile("/corpus/caf\udce9 \n.txt", "/corpus/caf%E9 \n.txt", 5, -7)
    found: list[Found] = [
        file(1),
        strange,
        LeftOut("/corpus/.x", "hidden"),
        Unreadable("/corpus/y", "denied"),
    ]
    write(tmp_path / "m.gz", found)
    assert [line.found for line in read(tmp_path / "m.gz")] == found
    assert [line.number for line in read(tmp_path / "m.gz")] == [0, 1, 2, 3]
    assert read_header(tmp_path / "m.gz") == HEADER


def test_a_member_is_read_without_those_before_it(tmp_path: Path) -> None:
    write(tmp_path / "m.gz", [file(n) for n in range(2 * MEMBER_LINES + 5)])
    last = list(members(tmp_path / "m.gz"))[-1]
    assert (last.first, len(last.lines)) == (2 * MEMBER_LINES, 5)
    (again,) = members(tmp_path / "m.gz", last.offset, last.first)
    assert again == last
    whole = gzip.decompress((tmp_path / "m.gz").read_bytes())  # as zcat reads it
    assert whole.count(b"\n") == 1 + 2 * MEMBER_LINES + 5


def test_what_is_no_manifest_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name, reason in (("text", "not a manifest"), ("nowhere", "no such file"), (".", "is a directory")):
        with pytest.raises(UsageError, match=reason):
            read_header(tmp_path / name)


def test_a_damaged_manifest_is_told_of(tmp_path: Path) -> None:
    write(tmp_path / "m.gz", [file(n) for n in range(10)])
    content = (tmp_path / "m.gz").read_bytes()
    (tmp_path / "m.gz").write_bytes(content[:-20])
    with pytest.raises(UsageError, match="damaged"):
        list(read(tmp_path / "m.gz"))


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def test_a_listing_that_was_killed_goes_on_and_looks_at_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(2500):
        (corpus / f"{number}.txt").write_text("x" * (number % 7))
    (corpus / ".hidden").touch()
    header, manifest = Header((str(corpus),)), tmp_path / "m.gz"

    class Dying(Discovery):
        def __iter__(self) -> Iterator[Found]:
            for count, found in enumerate(super().__iter__()):
                if count == 2200:
                    raise Killed
                yield found

    monkeypatch.setattr(listing, "Discovery", Dying)
    with pytest.raises(Killed):
        list_corpus(manifest, header, lambda text: None)
    part = manifest.with_name("m.gz.part")
    with open(part, "ab") as torn:
        torn.write(gzip.compress(b"{}\n")[:9])
    monkeypatch.undo()
    looked: list[str] = []
    stat = os.stat

    def counted(path: str | int, **options: bool) -> os.stat_result:
        if str(path).startswith(f"{corpus}/"):
            looked.append(str(path))
        return stat(path, **options)

    monkeypatch.setattr("engine.stages.discover.os.stat", counted)
    said: list[str] = []
    assert list_corpus(manifest, header, said.append)
    monkeypatch.undo()
    assert said == ["listing: going on after 2,000 paths"]
    assert len(looked) <= 501
    sources = [line.found.source for line in read(manifest)]
    assert sorted(sources) == sorted(found.source for found in Discovery((str(corpus),)))
    assert not part.exists()


def test_the_rest_of_a_listing_of_other_inputs_is_not_gone_on_with(tmp_path: Path) -> None:
    other = Writer(tmp_path / "m.gz", Header(("/elsewhere",)))
    for number in range(MEMBER_LINES):
        other.add(file(number))
    other.close()
    writer = Writer(tmp_path / "m.gz", HEADER)
    assert writer.lines == 0
    writer.finish()
    assert read_header(tmp_path / "m.gz") == HEADER and not list(read(tmp_path / "m.gz"))


def test_writing_and_reading_take_no_more_memory_for_more_files(tmp_path: Path) -> None:
    def peak(files: int) -> int:
        path = tmp_path / f"{files}.gz"
        tracemalloc.start()
        writer = Writer(path, HEADER)
        for number in range(files):
            writer.add(file(number), "text/plain")
        writer.finish()
        assert sum(1 for _ in read(path)) == files
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(80 * MEMBER_LINES) < 1.2 * peak(16 * MEMBER_LINES)
