"""Titles and headings of Markdown, by CommonMark's rules."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.parsers.markdown import Headings, plain
from engine.records import TextSection
from tests.parsers import parsing

parse = partial(parsing.text_sections, "text/markdown")

# Not among them: list items without text and numbers other than 1, of which CommonMark's rules depend on
# what stands before.
LINES = [
    "# One", "## Two ##", "#no", "####### seven", "Plain words", "Another line", "===", "---", "--", "=", "",
    "", "```", "~~~", "```sh", "````", "    # code", "  # in", "   # three", "    four", "> quote",
    "> # quoted", ">", "- item", "-  wide", "- # in item", "1. one", "  inside", "   inside", "     deep",
    "- ```", "  ```", "<div>", "</div>", "<!-- comment", "-->", "<b>", "text <b>", "<script>", "</script>",
    "* * *", "***", "- - -", "___", "[a]: /b", "\t# tab", "* a", "# Three #four", "`code`", "<?php", "?>",
]  # fmt: skip


def section_of(tmp_path: Path, markup: str) -> TextSection:
    path = tmp_path / "a.md"
    path.write_bytes(markup.encode())
    (section,) = parse(path)
    assert section.text == markup
    return section


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(LINES), max_size=9).map("\n".join))
def test_headings_are_those_that_a_library_for_commonmark_finds(markup: str) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt("commonmark").parse(markup)
    expected = [
        (opened.map[0], int(opened.tag[1]))
        for opened, content in pairwise(tokens)
        if opened.type == "heading_open" and opened.level == 0 and content.content.strip()
    ]
    headings = Headings()
    headings.feed(f"\n{markup}", 0)
    assert [(markup.count("\n", 0, at - 1), level) for at, level, _ in headings.outline.coming] == expected


def test_a_chunk_has_the_path_of_headings_above_it(tmp_path: Path) -> None:
    section = section_of(tmp_path, "before\n\n# A\na\n## B\nb\n# C\n### D\nd\n\nE and\nmore\n---\ne\n")
    assert section.title == "A"
    above = {word: section.headings_at(section.text.index(f"\n{word}\n") + 1) for word in "abde"}
    assert above == {"a": "A", "b": "A > B", "d": "C > D", "e": "C > E and more"}
    assert section.headings_at(0) is None
    assert section.headings_at(section.text.index("E and")) == "C > E and more"


@pytest.mark.parametrize(
    ("matter", "title"),
    [
        ("---\ntitle: A: year of hedges # mine\n---\n", "A: year of hedges"),
        ('---\nlang: en\ntitle: "Say \\"yes\\""\n...\n', 'Say "yes"'),
        ("---\r\ntitle: 'Hedges'\r\n---\r\n", "Hedges"),
        ('+++\ntitle = "Hedges"\n+++\n', "Hedges"),
        ("---\nlang: en\n---\n", "Heading"),
        ("---\ntitle:\n---\n", "Heading"),
        ("", "Heading"),
    ],
)
def test_the_title_is_the_front_matter_s_or_else_the_first_heading(
    tmp_path: Path, matter: str, title: str
) -> None:
    section = section_of(tmp_path, f"{matter}## Before\n\n# Heading\n\nwords\n")
    assert section.title == title
    assert section.headings == (
        (len(matter), ("Before",)),
        (len(matter) + len("## Before\n\n"), ("Heading",)),
    )


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("The *very* **big** `a * b` ~~it~~", "The very big a * b ~~it~~"),
        ("See [the docs](http://a/b) and [![logo](x.png)](y)", "See the docs and logo"),
        (r"2 \* 3 &amp; snake_case_name", "2 * 3 & snake_case_name"),
        ('<a name="x"></a>Install <!-- now -->', "Install "),
    ],
)
def test_a_heading_is_kept_without_its_marks(markup: str, text: str) -> None:
    assert plain(markup) == text


def test_headings_without_end_take_no_more_than_their_limit(tmp_path: Path) -> None:
    section = section_of(tmp_path, "# " + "bee " * 5000 + "\n\nwords")
    assert section.title is not None
    assert len(section.title) <= 256
