import io
import os
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ParseError
from engine.machine.allocator import release, resident_bytes
from engine.parsers import sections
from engine.parsers.html import page as html
from engine.parsers.html.page import Page, find_page_encoding
from engine.parsers.html.page_text import PageText, texts
from engine.records import TextSection
from tests.parsers import parsing
from tests.parsers.test_page_text import MARKUP

parse = partial(parsing.text_sections, "text/html")

SENTENCE = (
    "Paragraph {} speaks of <b>rivers</b>, lakes and <a href='/x'>seas</a> at some length, as articles do."
)
ARTICLE = (
    "<html><head><title>Waters</title><style>p {color: red}</style></head><body>"
    "<nav><a href='/'>Home page</a> <a href='/shop'>Shop now</a></nav><main><h1>About waters</h1>"
    + "".join(f"<p>{SENTENCE.format(i)}</p>" for i in range(8))
    + "<table><tr><th>River</th><th>Length</th></tr><tr><td>Rhine</td><td>1,230 km</td></tr></table></main>"
    "<script>alert('script words')</script><footer>Imprint</footer></body></html>"
)


def extract(markup: str) -> str:
    """A page's text; its markup comes in one piece."""
    return "".join(Page(lambda: iter([markup]), len(markup)).texts())


def decode(data: bytes) -> str:
    """A page's markup without its byte order mark."""
    encoding, mark = find_page_encoding(io.BytesIO(data))
    return data[mark:].decode(encoding)


def _write(folder: Path, data: bytes) -> str:
    path = folder / "page.html"
    path.write_bytes(data)
    return str(path)


def test_the_main_text_comes_without_scripts_styles_and_navigation() -> None:
    text = extract(ARTICLE)
    assert "Paragraph 0 speaks of rivers, lakes and seas at some length" in text
    assert "Paragraph 7" in text
    for unwanted in ("script words", "color", "Shop now", "Imprint", "<"):
        assert unwanted not in text


def test_a_table_arrives_as_rows() -> None:
    assert "Rhine | 1,230 km" in extract(ARTICLE)


def test_a_short_page_is_taken_whole_with_its_blocks_on_lines_and_its_table_as_rows() -> None:
    page = (
        "<title>Short</title><script>no</script><p>One <b>bold</b>\n word</p><p>Two<br>lines<!-- no --> more"
        "<template>no</template><table><tr><td>a</td><td>b</td></tr><tr><td></td><td>d</td></tr></table>"
    )
    assert extract(page) == "Short\n\nOne bold word\n\nTwo\nlines more\n\na | b\n| d"


def test_a_page_whose_main_text_is_a_small_part_is_taken_whole() -> None:
    links = "".join(f"<li><a href='/{i}'>Entry number {i} of the catalogue</a></li>" for i in range(500))
    text = extract(f"<html><body><ul>{links}</ul><p>{'Short note. ' * 5}</p></body></html>")
    assert "Entry number 499 of the catalogue" in text


def test_a_page_that_trafilatura_fails_on_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise RecursionError("too deep")

    monkeypatch.setattr("trafilatura.extract", fail)
    assert "Paragraph 7" in extract(ARTICLE)


def test_the_same_page_gives_the_same_text_each_time() -> None:
    assert len({extract(ARTICLE) for _ in range(5)}) == 1


@pytest.mark.parametrize(
    "data",
    [
        "<meta charset='utf-8'><p>Größe €</p>".encode(),
        "<META http-equiv=Content-Type content='text/html; charset=ISO-8859-1'><p>Größe €</p>".encode(
            "cp1252"
        ),
        "<?xml version='1.0' encoding='windows-1252'?><p>Größe €</p>".encode("cp1252"),
        "<p>Größe €</p>".encode(),
        "<p>Größe €</p>".encode("utf-16"),
        "<meta charset='utf-16'><p>Größe €</p>".encode(),
        "<meta charset='no-such-thing'><p>Größe €</p>".encode(),
        "<meta charset='hex'><p>Größe €</p>".encode(),
        "<meta charset='ascii'><p>Größe €</p>".encode("cp1252"),
    ],
)
def test_the_character_set_is_the_marks_the_declared_or_the_detected(data: bytes) -> None:
    assert decode(data).endswith("<p>Größe €</p>")


def test_a_declaration_that_does_not_fit_the_bytes_is_not_believed() -> None:
    assert decode("<meta charset=utf-8><p>Größe und Länge".encode("latin-1")).endswith("Größe und Länge")


@pytest.mark.parametrize("data", [b"<html></html>", b"<!-- only this -->", b"   \n", b"<script>x</script>"])
def test_a_page_without_text_has_no_section(tmp_path: Path, data: bytes) -> None:
    assert list(parse(_write(tmp_path, data))) == []


def test_nesting_that_the_library_gives_up_on_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    path = _write(tmp_path, b"<div>" * 100_000 + b"words")
    with pytest.raises(ParseError, match="too deep") as error:
        list(parse(path))
    assert error.value.error_type == "html-too-deep"


def test_deep_nesting_below_that_is_read(tmp_path: Path) -> None:
    (section,) = parse(_write(tmp_path, b"<div>" * 1500 + b"words" + b"</div>" * 1500))
    assert section.text == "words"


def test_a_page_too_large_for_its_main_text_is_streamed_and_gives_all_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path, ARTICLE.encode())
    (section,) = parse(path)
    assert "Imprint" not in section.text
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", 1000)
    monkeypatch.setattr(html, "_tree", lambda *_: pytest.fail("held whole"))
    (section,) = parse(path)
    assert section.text.endswith("Rhine | 1,230 km\n\nImprint")


def test_what_stands_behind_the_pages_end_is_not_lost() -> None:
    assert extract("<html><body>one</body></html>\n<html><body><p>two</body></html><p>three") == (
        "one\n\ntwo\n\nthree"
    )


@pytest.mark.parametrize(
    ("head", "block", "tail"),
    [
        ("<p>", "bees and their hive ", "<p>the end"),
        ("<p>bees<img src='", "QUJD", "'><p>the end"),
        ("<p>bees<script>", "'bees'<b;\n", "</script><p>the end"),
        ("<p>bees<!--", "hive -- ", "--><p>the end"),
        ("<textarea>", "bees & <b>honey\n", "the end"),
        ("<pre>bees", "\u2003", "the end"),
    ],
)
def test_a_page_of_any_size_passes_in_the_same_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, block: str, tail: str
) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", 1024)
    path = tmp_path / "page.html"
    with open(path, "wb") as file:
        file.write(f"<html><body>{head}".encode())
        data = (block * (2**20 // len(block.encode()))).encode()
        for _ in range(24):
            file.write(data)
        file.write(tail.encode())
    release()
    before, grown, last = resident_bytes(), 0, ""

    def look(share: float | None = None) -> None:
        nonlocal grown
        grown = max(grown, resident_bytes() - before)

    for section in parse(str(path), progress=look):
        last = section.text
    assert last.endswith("the end")
    assert 0 < grown < 16 * 2**20


def test_depth_is_bounded_in_a_stream_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", 1024)
    found: list[str] = []
    with pytest.raises(ParseError, match="too deep"):
        for section in parse(_write(tmp_path, b"<p>bees</p>" * 100_000 + b"<div>" * 1_000_000)):
            found.append(section.text)
    assert found


def test_an_element_for_each_piece_of_a_deep_page_costs_no_more_than_its_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", 1024)
    began = time.process_time()
    found = parse(_write(tmp_path, b"<div>" * 2000 + b"<p>bees" * 300_000))
    assert sum(section.text.count("bees") for section in found) == 300_000
    # Each element copied for each piece would take minutes.
    assert time.process_time() - began < 60


def test_what_cannot_be_decoded_is_counted_once_however_often_a_parse_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", 1024)
    monkeypatch.setattr(html, "BLOCK_BYTES", 500)
    monkeypatch.setattr(sections, "MAX_SECTION_CHARS", 500)
    monkeypatch.setattr(sections, "LOOK_BACK_CHARS", 100)
    path = _write(tmp_path, b"\xef\xbb\xbf<p>bees \xff in their \xfe hive</p>" * 100)
    whole = list(parse(path))
    assert len(whole) > 3
    assert sum(section.replaced for section in whole) == 200
    for i, section in enumerate(whole):
        assert list(parse(path, section.resume)) == whole[i + 1 :]


def test_nul_and_stray_bytes_do_not_reach_the_text(tmp_path: Path) -> None:
    (section,) = parse(_write(tmp_path, b"<p>one\0two &#0; &#xD800; three</p>"))
    section.text.encode()
    assert "\0" not in section.text
    assert "three" in section.text


@pytest.mark.parametrize("limit", [1000, 10**6])
def test_a_parse_resumed_after_any_section_yields_what_would_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", limit)
    monkeypatch.setattr(html, "BLOCK_BYTES", 100)
    monkeypatch.setattr("engine.parsers.sections.MAX_SECTION_CHARS", 500)
    monkeypatch.setattr("engine.parsers.sections.LOOK_BACK_CHARS", 100)
    body = "".join(f"<p>Paragraph {i} of a long page.</p>\n" for i in range(100))
    path = _write(tmp_path, f"<html><body>{body}</body></html>".encode())
    whole = list(parse(path))
    assert len(whole) > 2
    for i, section in enumerate(whole):
        assert list(parse(path, section.resume)) == whole[i + 1 :]


def test_a_name_that_is_not_utf8_can_be_opened(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.html")
    with open(name, "wb") as file:
        file.write(b"<p>hello</p>")
    assert [section.text for section in parse(name)] == ["hello"]


def test_a_tag_of_absurd_length_loses_its_attributes_and_nothing_else() -> None:
    attributes = " ".join(f"a{i}=b" for i in range(100_000))
    assert (
        extract(f"<html><body><p>before</p><p {attributes}>inside</p><p>after</p>")
        == "before\n\ninside\n\nafter"
    )


def test_a_page_of_very_many_elements_is_taken_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trafilatura.extract", lambda *_, **__: pytest.fail("looked for its main text"))
    cells = "<tr><td>bee<td>hive" * 20_000
    assert extract(f"<html><body><table>{cells}</table>").count("bee | hive") == 20_000


@pytest.mark.parametrize("name", ["punycode", "idna", "unicode_escape", "zlib_codec", "no-such-set"])
def test_a_character_set_that_pages_cannot_have_is_not_believed(name: str) -> None:
    assert decode(f"<html><meta charset={name}><p>Größe \\n-x".encode()).endswith("<p>Größe \\n-x")


def _headings(section: TextSection) -> list[tuple[str, tuple[str, ...]]]:
    """The lines of the text that headings begin at, and their paths."""
    return [(section.text[at:].split("\n", 1)[0], path) for at, path in section.headings]


@pytest.mark.parametrize("limit", [10, 10**6])
def test_headings_stand_where_their_lines_are_in_the_main_text_and_in_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(html, "MAX_MAIN_TEXT_BYTES", limit)
    words = f"<p>{SENTENCE.format(1) * 3}</p>"
    page = (
        "<html><head><title> All\n about <b>waters</title></head><body><nav><h2>Menu</h2></nav>"
        f"<main><h1>About   waters</h1>{words}<h2>Ri<b>ve</b>rs</h2>{words}<h3>Rhine</h3>{words}"
        f"<h2>Seas &amp; lakes</h2>{words}<svg><title>drawn</title></svg></main></body></html>"
    )
    (section,) = parse(_write(tmp_path, page.encode()))
    assert section.title == "All about <b>waters"
    assert [found for found in _headings(section) if found[0] != "Menu"] == [
        ("About waters", ("About waters",)),
        ("Rivers", ("About waters", "Rivers")),
        ("Rhine", ("About waters", "Rivers", "Rhine")),
        ("Seas & lakes", ("About waters", "Seas & lakes")),
    ]
    assert ("Menu" in section.text) == (limit == 10)


def test_without_a_title_the_first_h1_is_one(tmp_path: Path) -> None:
    (section,) = parse(_write(tmp_path, b"<h2>Part</h2><h1></h1><h1>Bees<br>and <b>honey</b></h1><p>words"))
    assert section.title == "Bees and honey"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(MARKUP), max_size=25).map("".join), st.integers(1, 40))
def test_headings_are_the_same_however_the_markup_is_cut(markup: str, size: int) -> None:
    def headings(size: int) -> tuple[object, ...]:
        page = PageText()
        pieces = [markup[at : at + size] for at in range(0, len(markup), size)]
        return "".join(texts(pieces, page)), page.title, page.outline.coming

    whole = headings(10**6)
    assert headings(size) == whole
    text, _, coming = whole
    assert isinstance(text, str)
    assert isinstance(coming, list)
    for at, _, heading in coming:
        assert text[at:][:1] == heading[:1]
