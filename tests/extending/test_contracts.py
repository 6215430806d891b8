"""The parts that `docs/extending.md` shows keep the promises of their kinds."""

from __future__ import annotations

import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.base import Adapter
from engine import sources
from engine.errors import UsageError
from engine.records import ChunkerChoice
from engine.sources.base import Found, Rules
from tests.adapters.contract import AdapterContract
from tests.chunkers.contract import ChunkerContract
from tests.extending import page
from tests.parsers.contract import ParserContract
from tests.sources.contract import SourceContract


def test_each_part_is_shown_in_fewer_than_40_lines() -> None:
    shown = {name: code for name, code in page.files().items() if name.endswith(".py")}
    assert sorted(shown) == [
        f"toy_{kind}.py" for kind in ("adapter", "backend", "chunker", "parser", "source")
    ]
    for name, code in shown.items():
        assert sum(bool(line.strip()) for line in code.splitlines()) < 40, name


class TestSource(SourceContract):
    """Items are members of an archive: the folder `b` is an archive of its own that can be damaged."""

    def set_up(self) -> None:
        self._content: dict[str, dict[str, bytes]] = {}

    def put(self, name: bytes, content: bytes) -> None:
        folder, _, member = name.decode().rpartition("/")
        self._content.setdefault(folder, {})[member] = content
        self._write(folder)

    def remove(self, name: bytes) -> None:
        folder, _, member = name.decode().rpartition("/")
        del self._content[folder][member]
        self._write(folder)

    def _write(self, folder: str) -> None:
        with zipfile.ZipFile(self._archive(folder), "w") as archive:
            for member, content in self._content[folder].items():
                archive.writestr(member, content)

    def _archive(self, folder: str) -> Path:
        return self.place / f"{folder or 'all'}.zip"

    def listing(self, rules: Rules) -> Iterator[Found]:
        names = [sources.absolute(f"toy://{self._archive(folder)}") for folder in self._content]
        sources.check_inputs([] if self._broken else names, None)
        self._corpus = sources.Corpus(names, None, rules)
        return iter(self._corpus)

    _broken = False

    def was_complete(self) -> bool:
        return self._corpus.complete

    def break_listing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._archive("b").write_bytes(b"PK")
        self._broken = True

    def test_a_name_that_is_not_utf8_has_a_uri_that_is_and_opens(self) -> None:
        """A ZIP archive has names in UTF-8."""


class TestParser(ParserContract):
    name = "toy"
    media_type = "text/x-toy"
    file_name = "note.toy"

    def content(self) -> bytes:
        return b"TOY About bees\n" + b"Bees keep the hive warm. They dance.\n\n" * 40


class TestAdapter(AdapterContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        """In memory where the system has a place for that: the example waits for the disk at each record."""
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(dir=place) as folder:
            yield f"toy://{folder}/index"

    def drop(self, url: str) -> None:
        with closing(sqlite3.connect(url.removeprefix("toy://"), isolation_level=None)) as rows:
            rows.execute("DELETE FROM rows")

    def test_an_index_that_was_dropped_is_gone_and_may_be_made_again(self, index: Adapter) -> None:
        """The example has no `drop`, which is refused."""
        with pytest.raises(UsageError, match="toy:// can't delete a whole index"):
            index.drop()

    def test_what_somebody_else_made_is_refused(self) -> None:  # type: ignore[override]
        """The example looks at no file that it didn't make."""


class TestChunker(ChunkerContract):
    choice = ChunkerChoice("toy", size=48)
