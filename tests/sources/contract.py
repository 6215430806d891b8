"""What every source promises, as one test class: a source's own tests subclass it."""

from __future__ import annotations

import itertools
import os
import pickle
import tracemalloc
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from engine.sources import find_item, item_now, open_item
from engine.sources.base import Found, Item, LeftOut, Rules, Unreadable

#: Bytes that listing any number of items may take.
LISTING_BYTES = 400_000


class SourceContract(ABC):
    """A subclass says how items come to be; `self.place` is a folder of the test's own."""

    place: Path

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.place = tmp_path
        self.set_up()

    def set_up(self) -> None:
        """Called before each test."""
        return

    @abstractmethod
    def put(self, name: bytes, content: bytes) -> None:
        """Make the item of that name, which may have folders in it, or give it this content."""

    @abstractmethod
    def remove(self, name: bytes) -> None:
        """The item is gone."""

    @abstractmethod
    def listing(self, rules: Rules) -> Iterator[Found]:
        """All that was put."""

    @abstractmethod
    def was_complete(self) -> bool:
        """Whether the last listing, which has ended, met everything."""

    @abstractmethod
    def break_listing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on a part of what was put in the folder `b` can't be listed."""

    def items(self, rules: Rules | None = None) -> list[Item]:
        found = list(self.listing(rules or Rules()))
        items = [each for each in found if isinstance(each, Item)]
        assert len(items) == len(found)
        return sorted(items, key=lambda item: item.uri)

    def test_each_item_comes_once_with_a_uri_of_its_own_and_its_size(self) -> None:
        self.put(b"a.txt", b"one")
        self.put(b"b/c.txt", b"three")
        items = self.items()
        assert [item.size for item in items] == [3, 5]
        assert [item.uri.rpartition("/")[2] for item in items] == ["a.txt", "c.txt"]
        assert self.was_complete()

    def test_a_listing_is_lazy_and_takes_no_more_memory_for_more_items(self) -> None:
        for number in range(1500):
            self.put(b"%d/%d.txt" % (number % 10, number), b"x")
        tracemalloc.start()
        found = self.listing(Rules())
        first = list(islice(found, 1))
        count = len(first) + sum(1 for _ in found)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == 1500
        assert peak < LISTING_BYTES

    def test_an_item_opens_as_a_path_and_as_streams_that_seek(self) -> None:
        self.put(b"a.bin", bytes(range(256)) * 100)
        (item,) = self.items()
        with open_item(item) as opened:
            assert Path(opened.path).read_bytes() == bytes(range(256)) * 100
            with opened.stream() as one, opened.stream() as other:
                assert one.seekable()
                assert one.seek(-2, os.SEEK_END) == item.size - 2
                assert one.read() == b"\xfe\xff"
                assert one.seek(256) == 256
                assert one.read(2) == b"\x00\x01"
                assert other.read(3) == b"\x00\x01\x02"

    def test_an_item_travels_between_processes(self) -> None:
        self.put(b"a.txt", b"one")
        (item,) = self.items()
        assert pickle.loads(pickle.dumps(item)) == item

    def test_an_item_that_stays_as_it_is_keeps_its_version(self) -> None:
        self.put(b"a.txt", b"one")
        assert self.items() == self.items()
        (item,) = self.items()
        assert item_now(item) == find_item(item.uri) == item

    def test_another_content_of_the_same_size_is_another_version(self) -> None:
        self.put(b"a.txt", b"one")
        (before,) = self.items()
        self.put(b"a.txt", b"two")
        (after,) = self.items()
        assert (before.uri, before.size) == (after.uri, after.size)
        assert not after.same_content(before.size, before.version)
        assert item_now(before) == after

    def test_an_item_that_is_gone_is_none_now_and_opening_it_is_an_error_of_the_system(self) -> None:
        self.put(b"a.txt", b"one")
        (item,) = self.items()
        self.remove(b"a.txt")
        assert item_now(item) is None
        assert find_item(item.uri) is None
        with pytest.raises(OSError), open_item(item) as opened, opened.stream() as stream:
            stream.read()
        with pytest.raises(OSError), open_item(item) as opened, open(opened.path, "rb") as file:
            file.read()

    def test_a_name_that_is_not_utf8_has_a_uri_that_is_and_opens(self) -> None:
        self.put(b"caf\xe9.txt", b"one")
        (item,) = self.items()
        item.uri.encode()
        assert item.uri.endswith("caf%E9.txt")
        assert find_item(item.uri) == item
        with open_item(item) as opened, opened.stream() as stream:
            assert stream.read() == b"one"

    def test_patterns_leave_items_out_by_rule(self) -> None:
        for name in (b"a.txt", b"a.md", b"b/c.txt", b"b/d.txt"):
            self.put(name, b"x")
        found = list(self.listing(Rules(include=["*.txt"], exclude=["d.*"])))
        assert sorted(each.uri.rpartition("/")[2] for each in found if isinstance(each, Item)) == [
            "a.txt",
            "c.txt",
        ]
        rules = {each.uri.rpartition("/")[2]: each.rule for each in found if isinstance(each, LeftOut)}
        assert rules == {"a.md": "not-included", "d.txt": "excluded"}

    def test_shards_share_the_items_without_loss_or_overlap(self) -> None:
        for number in range(40):
            self.put(b"%d/%d.txt" % (number % 3, number), b"x")
        whole = Counter(item.uri for item in self.items())
        parts = [Counter(item.uri for item in self.items(Rules(shard=(i, 3)))) for i in range(3)]
        assert sum(parts, Counter()) == whole
        assert all(parts)

    def test_a_listing_that_breaks_is_told_and_is_not_complete(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put(b"a.txt", b"one")
        self.put(b"b/c.txt", b"three")
        self.break_listing(monkeypatch)
        found = list(self.listing(Rules()))
        assert any(isinstance(each, Unreadable) for each in found)
        assert not self.was_complete()


class LocalContract(SourceContract):
    """Files in the folder `corpus` of the test's own."""

    def set_up(self) -> None:
        (self.place / "corpus").mkdir()
        self._time = itertools.count(1)

    def put(self, name: bytes, content: bytes) -> None:
        path = Path(os.fsdecode(os.fsencode(self.place) + b"/corpus/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(1, next(self._time)))  # a clock of the file system may be slower than a test

    def remove(self, name: bytes) -> None:
        os.unlink(os.fsencode(self.place) + b"/corpus/" + name)

    def break_listing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refuse(monkeypatch, "scandir", f"{self.place}/corpus/b")


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, path: str) -> None:
    """Make the system say no, as it does to all but root."""
    real = getattr(os, call)

    def fail(name: str, *args: object, **options: object) -> object:
        if name == path:
            raise PermissionError(13, "Permission denied", name)
        return real(name, *args, **options)

    monkeypatch.setattr(os, call, fail)
