import itertools
import os
import random
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from engine.errors import ParseError, SkipFileError
from engine.parsers.pdf import pages as pdf_parser
from engine.parsers.pdf.pages import clean
from engine.records import SectionFailure, TextSection
from tests.hostile.pdf_parts import tree
from tests.parsers import parsing
from tests.parsers.pdf_writer import Page, pdf

parse = partial(parsing.parse, "application/pdf")

RIVERS = [["River", "Length of it", "Mouth"], ["Rhine", "1,230 km", "North Sea"], ["Elbe", "", "North Sea"]]
ROWS = "River | Length of it | Mouth\nRhine | 1,230 km | North Sea\nElbe |  | North Sea"


def _write(folder: Path, data: bytes) -> str:
    path = folder / "file.pdf"
    path.write_bytes(data)
    return str(path)


def _texts(path: str) -> list[str]:
    return [section.text for section in parse(path) if isinstance(section, TextSection)]


def test_each_page_with_text_is_a_section_and_units_grow_with_the_pages(tmp_path: Path) -> None:
    pages = [Page().text(72, 700, "Größe one"), Page(), Page().text(72, 700, "page three")]
    first, third = parse(_write(tmp_path, pdf(pages)))
    assert isinstance(first, TextSection)
    assert isinstance(third, TextSection)
    assert (first.page, first.start, first.text) == (1, 0, "Größe one")
    assert (third.page, third.start, third.text) == (3, 0, "page three")
    assert first.unit < third.unit


def test_a_page_with_a_table_arrives_as_readable_rows_in_their_place(tmp_path: Path) -> None:
    page = Page().text(72, 720, "Before it").table(72, 700, RIVERS).text(72, 600, "After it")
    assert _texts(_write(tmp_path, pdf([page]))) == [f"Before it\n{ROWS}\nAfter it"]


def test_two_tables_on_a_page_each_keep_their_place(tmp_path: Path) -> None:
    page = Page().table(72, 700, RIVERS).text(72, 600, "between").table(72, 500, RIVERS)
    assert _texts(_write(tmp_path, pdf([page]))) == [f"{ROWS}\nbetween\n{ROWS}"]


def test_a_table_is_found_where_the_page_does_not_begin_at_zero(tmp_path: Path) -> None:
    page = Page(box=(-100, 50, 512, 842)).text(0, 720, "Before it").table(0, 700, RIVERS)
    assert _texts(_write(tmp_path, pdf([page]))) == [f"Before it\n{ROWS}"]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_on_a_turned_page_no_word_of_a_table_is_lost_or_reversed(tmp_path: Path, turn: int) -> None:
    page = Page(rotate=turn).text(72, 720, "Before it").table(72, 700, RIVERS).text(72, 600, "After it")
    (text,) = _texts(_write(tmp_path, pdf([page])))
    words = text.replace("|", " ").split()
    assert sorted(words) == sorted(f"Before it {ROWS} After it".replace("|", " ").split())


def test_a_frame_around_text_is_no_table(tmp_path: Path) -> None:
    page = Page().box_line(60, 600, 400, 150).text(72, 700, "framed text")
    assert _texts(_write(tmp_path, pdf([page]))) == ["framed text"]


def test_a_page_without_rules_never_opens_the_slow_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr("engine.parsers.pdf.pages.read_tables", fail)
    page = Page().text(72, 700, "underlined").line(72, 698, 140, 698).box_line(60, 600, 300, 150)
    assert _texts(_write(tmp_path, pdf([page]))) == ["underlined"]


def test_the_slow_library_is_given_no_page_but_the_one_with_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pdfplumber

    opened: list[int] = []

    def count(*args: Any, **options: Any) -> Any:
        document = open_document(*args, **options)
        opened.append(len(document.pages))
        return document

    open_document = pdfplumber.open
    monkeypatch.setattr("pdfplumber.open", count)
    pages = [Page().text(72, 700, f"page {i}") for i in range(20)] + [Page().table(72, 700, RIVERS)]
    assert _texts(_write(tmp_path, pdf(pages)))[-1] == ROWS
    assert opened == [1]


def test_a_page_whose_table_cannot_be_read_keeps_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr("pdfplumber.page.Page.find_tables", fail)
    (text,) = _texts(_write(tmp_path, pdf([Page().table(72, 700, RIVERS)])))
    assert "Rhine 1,230 km North Sea" in text


def test_two_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    left = [f"left line {i} of the text" for i in range(6)]
    right = [f"right line {i} of the text" for i in range(6)]
    page = Page().lines(72, 700, left).lines(330, 700, right)
    assert _texts(_write(tmp_path, pdf([page]))) == ["\n".join(left + right)]


def test_a_word_parted_at_a_lines_end_is_whole_again(tmp_path: Path) -> None:
    page = Page().lines(72, 700, ["an inter-", "national word"])
    assert _texts(_write(tmp_path, pdf([page]))) == ["an international word"]
    assert clean("Baden-\ufffeWürttemberg".replace("-", "")) == "Baden-Württemberg"


def test_nothing_that_cannot_be_stored_comes_out() -> None:
    assert clean("a\r\nb\rc\0d\ud800e\x01f") == "a\nb\ncd\ufffdef"


def test_an_encrypted_file_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="password") as error:
        list(parse(_write(tmp_path, pdf([Page().text(72, 700, "secret")], password="key"))))
    assert error.value.error_type == "encrypted"


def test_what_was_wrong_with_the_last_file_is_not_told_of_the_next(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="password"):
        list(parse(_write(tmp_path, pdf([Page()], password="key"))))
    with pytest.raises(ParseError, match="it has no pages"):
        list(parse(_write(tmp_path, pdf([]))))


@pytest.mark.parametrize("data", [b"%PDF-1.4\ngarbage", b"%PDF-1.4", pdf([])])
def test_a_broken_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ParseError) as error:
        list(parse(_write(tmp_path, data)))
    assert error.value.error_type == "damaged-pdf"


def test_a_broken_page_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    data = pdf([Page().text(72, 700, "one"), Page().text(72, 700, "two"), Page().text(72, 700, "three")])
    # The second page's object is no page any more, at the same length.
    data = data.replace(b"6 0 obj\n<< /Type /Page /Parent 2 0 R", b"6 0 obj\n[] % ype /Page /Parent 2 0 R")
    sections = list(parse(_write(tmp_path, data)))
    assert [section.page for section in sections] == [1, 2, 3]
    assert isinstance(sections[1], SectionFailure)
    assert sections[1].error_type == "damaged-page"
    # A unit is told by its page: what becomes of one page moves no other.
    assert [section.unit for section in sections] == [0, 1024, 2048]


def test_too_many_broken_pages_in_a_row_end_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_parser, "MAX_BROKEN_PAGES", 2)
    monkeypatch.setattr(pdf_parser, "_page_text", lambda *_: ParseError("damaged-page", "no"))
    with pytest.raises(ParseError, match="2 pages in a row"):
        list(parse(_write(tmp_path, pdf([Page(), Page(), Page()]))))


def test_damage_anywhere_gives_sections_or_an_error_of_ours_and_nothing_else(tmp_path: Path) -> None:
    data = pdf([Page().table(72, 700, RIVERS), Page().text(72, 700, "two")])
    source = random.Random(11)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(5):
            broken[source.randrange(len(data))] = source.randrange(256)
        try:
            for section in parse(_write(tmp_path, bytes(broken))):
                assert isinstance(section, (TextSection, SectionFailure))
        except (ParseError, SkipFileError) as error:
            assert str(error)


def test_a_file_without_text_is_skipped_after_its_last_page(tmp_path: Path) -> None:
    with pytest.raises(SkipFileError) as error:
        list(parse(_write(tmp_path, pdf([Page(), Page().box_line(60, 600, 400, 150)]))))
    assert error.value.rule == "pdf-without-text"


def test_a_document_is_opened_anew_when_the_process_has_grown_and_loses_nothing_by_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    once = pdf_parser._open

    def count(file: BinaryIO) -> Any:
        opened.append(file)
        return once(file)

    monkeypatch.setattr(pdf_parser, "_open", count)
    monkeypatch.setattr(pdf_parser, "MAX_GROWTH_BYTES", 1000)
    # A page, 600 bytes more, and again: over the limit at every third page that is looked at.
    monkeypatch.setattr(pdf_parser, "resident_bytes", itertools.count(5000, 600).__next__)
    pages = [Page().text(72, 720, f"page {i}").table(72, 700, RIVERS) for i in range(9)]
    path = _write(tmp_path, pdf(pages))
    assert _texts(path) == [f"page {i}\n{ROWS}" for i in range(9)]
    # Once for its title and bookmarks.
    assert len(opened) == 1 + 3


def test_a_parse_resumed_after_any_section_yields_what_would_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_parser, "MAX_GROWTH_BYTES", 1000)
    monkeypatch.setattr(pdf_parser, "resident_bytes", itertools.count(5000, 600).__next__)
    monkeypatch.setattr("engine.parsers.sections.MAX_SECTION_CHARS", 100)
    monkeypatch.setattr("engine.parsers.sections.LOOK_BACK_CHARS", 25)
    source = random.Random(5)
    pages = []
    for number in range(8):
        page = Page()
        if number != 4:
            page.lines(72, 700, [f"Line {i} of page {number}." for i in range(source.randrange(1, 30))])
        pages.append(page)
    path = _write(tmp_path, pdf(pages))
    sections = list(parse(path))
    assert len(sections) > 12
    for i, section in enumerate(sections):
        assert isinstance(section, TextSection)
        assert list(parse(path, section.resume)) == sections[i + 1 :]


def test_a_name_that_is_not_utf8_can_be_opened_tables_included(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.pdf")
    with open(name, "wb") as file:
        file.write(pdf([Page().table(72, 700, RIVERS)]))
    assert _texts(name) == [ROWS]


def test_graph_paper_is_not_read_as_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.parsers.pdf.pages.read_tables", lambda *_: pytest.fail("read as a table"))
    page = Page().text(72, 700, "a curve")
    for i in range(120):
        page.line(0, 6 * i, 600, 6 * i).line(5 * i, 0, 5 * i, 700)
    assert _texts(_write(tmp_path, pdf([page]))) == ["a curve"]


def test_a_page_tree_that_leads_back_to_itself_is_not_walked(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="it claims 100,000 pages in") as error:
        list(parse(_write(tmp_path, tree(5, 10))))
    assert error.value.error_type == "damaged-pdf"


def test_bookmarks_are_headings_where_their_words_stand_on_their_page(tmp_path: Path) -> None:
    pages = [
        Page().lines(72, 700, ["A book of bees", "words"]),
        Page().lines(72, 700, ["goes on", "1.2 The Hive", "wax", "Honey", "sweet"]),
        Page(),
        Page().lines(72, 700, ["the last page"]),
    ]
    marks = [
        (1, "Part one", None),
        (2, "A book of bees", 0),
        (2, "The hive", 1),
        (2, "Honey", 1),
        (2, "Not in the text", 1),
        (1, " ", 1),
        (1, "Part two", 2),
    ]
    path = _write(tmp_path, pdf(pages, title=" Bees,\tall\x01 ", bookmarks=marks))
    found = [section for section in parse(path) if isinstance(section, TextSection)]
    assert {section.title for section in found} == {"Bees, all"}
    lines = [[(s.text[at:].split("\n")[0], " > ".join(path)) for at, path in s.headings] for s in found]
    assert lines == [
        [("A book of bees", "Part one > A book of bees")],
        [
            ("goes on", "Part one > A book of bees"),
            ("1.2 The Hive", "Part one > The hive"),
            ("Honey", "Part one > Not in the text"),
        ],
        [("the last page", "Part two")],
    ]


def test_a_pdf_without_title_or_bookmarks_has_neither(tmp_path: Path) -> None:
    (section,) = parse(_write(tmp_path, pdf([Page().text(72, 700, "words")], title="  ")))
    assert isinstance(section, TextSection)
    assert (section.title, section.headings) == (None, ())
