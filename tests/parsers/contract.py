"""What every parser promises (`engine.parsers.base`): each format's test subclasses this."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine import parsers
from engine.errors import ParseError, SkipFileError
from engine.parsers import PARSERS, LocalFile, ParseOptions, sections, text
from engine.parsers.base import Parser
from engine.records import PictureSection, Section, SectionFailure, TextSection

#: Characters of a section here, so that a small file has several.
SECTION_CHARS = 300


class ParserContract:
    """A format's test gives the parser's name in the registry, a media type, a file name that goes with it,
    the libraries that only parsing may load, and `content`: a file of that type with several sections where
    the format has them, and a title and headings where it knows any.
    """

    name: str
    media_type: str
    file_name: str
    libraries: frozenset[str] = frozenset()

    def content(self) -> bytes:
        """The file's bytes."""
        raise NotImplementedError

    def options(self) -> ParseOptions:
        """What it is parsed with."""
        return ParseOptions()

    @pytest.fixture(autouse=True)
    def small_sections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sections are small."""
        for module in (sections, text):
            monkeypatch.setattr(module, "MAX_SECTION_CHARS", SECTION_CHARS)
        monkeypatch.setattr(sections, "LOOK_BACK_CHARS", SECTION_CHARS // 4)

    @pytest.fixture
    def file(self, tmp_path: Path) -> LocalFile:
        """The file."""
        path = tmp_path / self.file_name
        path.write_bytes(self.content())
        return LocalFile(str(path))

    def parsed(self, file: LocalFile, resume: str | None = None, **options: Any) -> Iterator[Section]:
        """Its sections."""
        return parsers.parse(file, self.media_type, replace(self.options(), **options), resume)

    def test_it_is_registered_and_declares_what_it_reads(self) -> None:
        parser = PARSERS.get(self.name)()
        assert isinstance(parser, Parser)
        assert parser.name == self.name
        assert parser.kinds <= {"text", "image"}
        assert parser.kinds == parsers.kinds_of(self.media_type)
        assert self.media_type in {known.media_type for known in parser.formats}
        for known in parser.formats:
            for suffix in known.suffixes:
                assert parsers.type_by_name(f"/a/b.{suffix.upper()}") == known.media_type

    def test_its_content_and_name_are_detected_as_its_media_type(self, file: LocalFile) -> None:
        assert parsers.detect(file, file.path) == self.media_type

    def test_nothing_is_read_before_the_first_section_is_asked_for(self) -> None:
        found = self.parsed(LocalFile("/no/such/file"))
        with pytest.raises(FileNotFoundError):
            next(found)

    def test_importing_it_loads_no_library_of_the_format(self) -> None:
        program = (
            "import sys, engine.parsers as parsers\n"
            "parsers.type_by_name('a')\n"
            f"parsers.PARSERS.get({self.name!r})\n"
            f"print(sorted({set(self.libraries)!r} & set(sys.modules)))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_units_grow_and_progress_is_told(self, file: LocalFile) -> None:
        signs, shares = 0, [0.0]

        def progress(share: float | None = None) -> None:
            nonlocal signs
            signs += 1
            if share is not None:
                shares.append(share)

        units = [section.unit for section in self.parsed(file, progress=progress)]
        assert units
        assert units == sorted(set(units))
        assert signs
        assert shares == sorted(shares)
        assert shares[-1] <= 1

    def test_text_is_bounded_storable_and_lies_where_its_offsets_say(self, file: LocalFile) -> None:
        ends: dict[tuple[str | None, int | None], int] = {}
        for section in self.parsed(file):
            if isinstance(section, TextSection):
                place = (section.document, section.page)
                assert section.start == ends.get(place, 0)
                ends[place] = section.start + len(section.text)
                assert 0 < len(section.text) <= SECTION_CHARS
                section.text.encode()
                assert "\0" not in section.text

    def test_a_parse_resumed_behind_any_section_yields_the_rest(self, file: LocalFile) -> None:
        whole = list(self.parsed(file))
        for number, section in enumerate(whole):
            if not isinstance(section, SectionFailure):
                rest = [_comparable(each) for each in self.parsed(file, section.resume)]
                assert rest == [_comparable(each) for each in whole[number + 1 :]]

    def test_the_same_content_gives_the_same_sections(self, file: LocalFile) -> None:
        first, second = ([_comparable(each) for each in self.parsed(file)] for _ in range(2))
        assert first == second

    def test_one_title_for_all_sections_of_a_document_and_headings_that_carry_over(
        self, file: LocalFile
    ) -> None:
        found = [each for each in self.parsed(file) if not isinstance(each, SectionFailure)]
        titles: dict[str | None, set[str | None]] = {}
        for section in found:
            titles.setdefault(section.document, set()).add(section.title)
        assert all(len(several) == 1 for several in titles.values())
        texts = [each for each in found if isinstance(each, TextSection)]
        for section in texts:
            offsets = [offset for offset, _ in section.headings]
            assert offsets == sorted(set(offsets))
            assert all(0 <= offset < len(section.text) for offset in offsets)
            assert all(path and all(path) for _, path in section.headings)
        for before, after in pairwise(texts):
            if before.headings and before.document == after.document:
                assert after.headings
                assert after.headings[0][0] == 0

    @pytest.mark.parametrize("tenth", range(11))
    def test_a_truncated_file_gives_sections_or_a_documented_error(
        self, file: LocalFile, tmp_path: Path, tenth: int
    ) -> None:
        data = self.content()
        path = tmp_path / f"cut {self.file_name}"
        path.write_bytes(data[: len(data) * tenth // 10 - (tenth == 10)])
        try:
            for section in self.parsed(LocalFile(str(path))):
                assert isinstance(section, (TextSection, PictureSection, SectionFailure))
        except (ParseError, SkipFileError) as error:
            assert str(error)


def _comparable(section: Section) -> Section | tuple[object, ...]:
    """A section that can be compared: a picture's array can't."""
    if isinstance(section, PictureSection):
        place = (section.unit, section.page, section.document, section.title)
        return (*place, section.pixels.tobytes(), section.content_hash, section.resume, section.truncated)
    return section
