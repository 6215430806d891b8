"""Titles and headings of Markdown, by CommonMark's rules."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from engine.parsers.markdown import Headings
from engine.records import TextSection
from tests.parsers import parsing

parse = partial(parsing.text_sections, "text/markdown")


def section_of(tmp_path: Path, markup: str) -> TextSection:
    path = tmp_path / "a.md"
    path.write_bytes(markup.encode())
    (section,) = parse(path)
    assert section.text == markup
    return section


def test_what_stands_in_code_lists_quotations_and_html_is_no_heading(tmp_path: Path) -> None:
    markup = (
        "~~~\n# code\n```\n~~~~\n# One\n    # code\n> # quoted\n\n- # item\n\n  # inside\n\nTwo\n---\n"
        "<!--\n# comment\n-->\n<div>\n# html\n</div>\n\n#no\n\n---\n[a]: /b\n===\n## \n```\n# open\n"
    )
    section = section_of(tmp_path, markup)
    assert [path for _, path in section.headings] == [("One",), ("One", "Two")]


def test_code_that_goes_on_in_the_next_section_has_no_headings() -> None:
    headings = Headings()
    sections = ["# One\n\n```sh\n# code\n\n", "# code\n", "```\n\n# Two\n", "```\n# code\n```\n", "# Three\n"]
    at = 0
    for section in sections:
        headings.feed(section, at)
        at += len(section)
    whole = "".join(sections)
    assert headings.outline.coming == [
        (whole.index(f"# {name}"), 1, name) for name in ("One", "Two", "Three")
    ]


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
    assert Headings().plain(markup) == text


def test_headings_without_end_take_no_more_than_their_limit(tmp_path: Path) -> None:
    section = section_of(tmp_path, "# " + "bee " * 5000 + "\n\nwords")
    assert section.title is not None
    assert len(section.title) <= 256
