import random
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.parsers import text as text_parser
from engine.parsers.sections import MAX_SECTION_CHARS
from tests.parsers import parsing

parse = partial(parsing.text_sections, "text/plain")

SMALL_FILES = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


ALPHABETS = {
    "cp1252": "abé. \n",
    "cp932": "ab日本。 \n",
    "euc_jp": "ab日本。 \n",
    "gb18030": "abé日😀. \r\n",
    "utf-8": "abé日😀. \r\n",
    "utf-16": "abé日😀. \r\n",
    "utf-32-be": "abé日😀. \r\n",
}


def _write(folder: Path, data: bytes) -> str:
    path = folder / "file.txt"
    path.write_bytes(data)
    return str(path)


def test_sections_together_are_exactly_the_file(tmp_path: Path) -> None:
    text = "".join(f"Line {i}: größer, naïve, 日本語, \U0001f600.\r\n" for i in range(30_000))
    sections = list(parse(_write(tmp_path, text.encode())))
    assert len(sections) > 3
    assert "".join(section.text for section in sections) == text
    for section in sections:
        assert section.text == text[section.start : section.start + len(section.text)]
        assert len(section.text) <= MAX_SECTION_CHARS
        assert section.page is None
    assert [section.unit for section in sections] == list(range(len(sections)))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_a_mark_is_not_part_of_the_text(tmp_path: Path, encoding: str) -> None:
    (section,) = parse(_write(tmp_path, "Größe in cm".encode(encoding)))
    assert section.text == "Größe in cm"
    assert section.start == 0


def test_a_file_of_nothing_but_a_mark_has_no_section(tmp_path: Path) -> None:
    assert list(parse(_write(tmp_path, b"\xef\xbb\xbf"))) == []


def test_a_file_that_breaks_late_loses_only_the_broken_bytes(tmp_path: Path) -> None:
    good = "déjà vu, always valid until here\n" * 40_000
    sections = list(parse(_write(tmp_path, good.encode() + b"broken \xff\xfe here\0")))
    assert "".join(section.text for section in sections) == good + "broken \ufffd\ufffd here\ufffd"


def test_a_file_is_not_read_further_than_its_first_section_needs(tmp_path: Path) -> None:
    path = _write(tmp_path, "é".encode() + b"word " * 2_000_000)
    sections = parse(path)
    next(sections)
    Path(path).write_bytes(b"")
    assert sum(len(section.text) for section in sections) < 2 * MAX_SECTION_CHARS


@SMALL_FILES
@given(data=st.data())
def test_a_parse_resumed_after_any_section_yields_what_would_have_come(
    tmp_path: Path, data: st.DataObject
) -> None:
    encoding = data.draw(st.sampled_from(sorted(ALPHABETS)))
    alphabet = ALPHABETS[encoding]
    seed = data.draw(st.integers(0, 10**6))
    source = random.Random(seed)
    content = "".join(source.choices(alphabet, k=1200)).encode(encoding)
    if seed % 3 == 0:  # what is broken must not be read otherwise after a resume
        content += source.randbytes(40) + content
    path = _write(tmp_path, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.parsers.sections.MAX_SECTION_CHARS", 100)
        patch.setattr("engine.parsers.sections.LOOK_BACK_CHARS", 25)
        patch.setattr("engine.parsers.sections.MAX_CLUSTER_CHARS", 5)
        patch.setattr(text_parser, "MAX_SECTION_CHARS", 100)
        patch.setattr(text_parser, "BLOCK_BYTES", source.choice([16, 33, 64, 500]))
        sections = list(parse(path))
        assert len(sections) > 5
        for i, section in enumerate(sections):
            assert list(parse(path, section.resume)) == sections[i + 1 :]
