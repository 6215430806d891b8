"""Text that is streamed is the text of the tree, however its markup is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lxml import etree
from lxml.html import HTMLParser, document_fromstring

from engine.errors import ParseError
from engine.parsers.html import page_text
from engine.parsers.html.bare_markup import UNKNOWN_NAMES, BareMarkup
from engine.parsers.html.page_text import PageText, texts

# Not among them: a second head, whose end tag libxml2 forgives as often as it saw one begin, and ends of body
# and html, which are left out on purpose.
MARKUP = [
    "<html>", "<body>", "<p>", "</p>", "<div>", "</div>", "<table>", "</table>", "<tr>", "<td>", "<th>",
    "</td>", "<b>", "</b>", "<pre>", "</pre>", "<textarea>", "</textarea>", "<title>", "</title>", "<li>",
    "<ul>", "</ul>", "<br>", "<br/>", "<p/>", "<script>", "</script>", "<!-- x -->", "<!-->", "<!--a--!>",
    "&amp;", "&am", "p;", "a b", " ", "\n", "\xa0", "\u2003", "\r\n", "\r", "<a href='x>y'>", "</a>",
    "<o:p>", "</o:p>", "<noscript>", "</noscript>", "<template>", "</template>", "<", ">", "<3", "</",
    "<!doctype html>", "<?x ?>", "<style>a<b", "</style>", "<select>", "<option>", "word", "<iframe>",
    "</iframe>", "&lt;", "&notit;", "\t", "<h1>", "</h1>", "<dl><dt>", "<dd>", "<form>", "</form>", "<svg>",
    "</svg>", "<i a=b/>", "<i =\"a>b\">", "<i a = 'b' c>", "</i x='>'>", "<i a=b\"c>",
    "<script>a<!--<script>b</script>c-->", "<frameset>", "<frame src=a>", "<img>", "<wbr>", "<input>",
    "<embed>", "<plaintext>", "</p\n>", "<p\n\n>", "<P CLASS=x>", "<i a", "&#", "&#65;", "Größe", "<h1 x",
]  # fmt: skip


def tree_text(markup: str) -> tuple[str, int]:
    """What a page says by its whole tree, and the number of its elements."""
    parser = HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True, remove_pis=True)
    page = document_fromstring(markup.encode(), parser=parser)
    parts: list[str] = []
    kept_lines = 0
    walker = etree.iterwalk(page, events=("start", "end"))
    for event, element in walker:
        tag = element.tag
        paragraph = tag in page_text._PARAGRAPHS
        kept_lines += (1 if event == "start" else -1) if tag in page_text._KEEPS_LINES else 0
        parts.append("\n\n" if paragraph else "")
        if event == "start":
            if tag in page_text._LINES:
                parts.append("\n")
            elif tag in page_text._CELLS and element.getprevious() is not None:
                parts.append(" | ")
            if tag in page_text._DROPPED:
                walker.skip_subtree()
                continue
        text = element.text if event == "start" else element.tail
        if text:
            parts.append(text if kept_lines else re.sub(r"\s+", " ", text))
    lines = (re.sub(r"[ \t\r\f\v\xa0]+", " ", line).strip() for line in "".join(parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), sum(1 for _ in page.iter())


def streamed(markup: str, size: int) -> tuple[str, int]:
    """The same by a stream of pieces of `size` characters."""
    page = PageText()
    pieces = [markup[at : at + size] for at in range(0, len(markup), size)]
    return "".join(texts(pieces, page)), page.elements


@settings(deadline=None, max_examples=400)
@given(st.lists(st.sampled_from(MARKUP), max_size=25).map("".join), st.integers(1, 40))
@example("<textarea>&am<!-->", 1)
@example("<table><tr><td><p>a<td>b", 3)
@example("<pre>a\r\nb\rc", 1)
def test_a_stream_gives_the_text_of_the_tree(markup: str, size: int) -> None:
    markup = f"<p>bees{markup}"
    assert streamed(markup, size) == tree_text(markup)


def test_names_that_html_does_not_know_are_no_more_than_so_many() -> None:
    bare = BareMarkup().feed("".join(f"<bee{i}>" for i in range(20_000)))
    assert 1000 < len(set(bare.split(">"))) <= UNKNOWN_NAMES + 1
    assert all(name in bare for name in ["x1>"])


def test_each_element_that_is_treated_apart_keeps_its_name() -> None:
    for group in (page_text._DROPPED, page_text._LINES, page_text._PARAGRAPHS, page_text._CELLS):
        for name in group:
            assert BareMarkup().feed(f"<{name.upper()} class=x>") == f"<{name}>"


@pytest.mark.parametrize("size", [7, 100_000])
def test_tags_nested_too_deep_are_an_error(size: int) -> None:
    assert streamed("<div>" * 2000 + "bees", size)[0] == "bees"
    with pytest.raises(ParseError, match="too deep"):
        streamed("<div>" * 2100 + "bees", size)
