import os
from pathlib import Path

import pytest

from engine.errors import ParseError
from engine.parsers import html
from engine.parsers.html import decode, extract, parse

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


def test_a_page_beyond_the_limit_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_HTML_BYTES", 1024**2)
    with pytest.raises(ParseError, match="up to 1 MiB") as error:
        list(parse(_write(tmp_path, b"<p>" + b"x" * 1024**2)))
    assert error.value.error_type == "html-too-large"


def test_nul_and_stray_bytes_do_not_reach_the_text(tmp_path: Path) -> None:
    (section,) = parse(_write(tmp_path, b"<p>one\0two &#0; &#xD800; three</p>"))
    section.text.encode()
    assert "\0" not in section.text
    assert "three" in section.text


def test_a_parse_resumed_after_any_section_yields_what_would_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.parsers.sections.MAX_SECTION_CHARS", 500)
    monkeypatch.setattr("engine.parsers.sections.LOOK_BACK_CHARS", 100)
    body = "".join(f"<p>Paragraph {i} of a long page.</p>\n" for i in range(100))
    path = _write(tmp_path, f"<html><body>{body}</body></html>".encode())
    sections = list(parse(path))
    assert len(sections) > 2
    for i, section in enumerate(sections):
        assert list(parse(path, section.resume)) == sections[i + 1 :]


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
