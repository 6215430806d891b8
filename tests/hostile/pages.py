"""Hostile HTML."""

from __future__ import annotations

from tests.hostile.kind import Kind, cuts, flips
from tests.hostile.texts import GREEK, PROSE, laughs

_HEAD = "<!doctype html><html><head><meta charset=utf-8><title>Bees</title></head><body>"


def _page() -> bytes:
    rows = "".join(f"<tr><td>hive {i}</td><td>{i * 7} kg</td></tr>" for i in range(20))
    article = "".join(f"<h2>Part {i}</h2><p>{GREEK * 4}{PROSE}</p>" for i in range(6))
    article += f"<table>{rows}</table>"
    return f"{_HEAD}<nav><a href=/>home</a></nav><article>{article}</article></body></html>".encode()


def _body(markup: str) -> bytes:
    return f"{_HEAD}<p>{PROSE * 10}</p>{markup}".encode()


KINDS = [
    *cuts("page.html", _page, "indexed"),
    *flips("page.html", _page, "indexed"),
    Kind("deep as a well.html", lambda: _body("<div>" * 200_000), "failed", "deep"),
    Kind("half as deep as allowed.html", lambda: _body("<div>" * 120 + "bees" + "</div>" * 120), "indexed"),
    Kind("unclosed inline tags.html", lambda: _body("<b><i><u>" * 30_000 + "bees"), "failed indexed", "deep"),
    Kind("unclosed paragraphs.html", lambda: _body("<p>bees" * 100_000), "indexed"),
    Kind("unclosed lists.html", lambda: _body("<ul><li>bee" * 5_000), "failed indexed", "deep"),
    Kind("a million entities.html", lambda: _body("&amp;&#x1F41D;" * 550_000), "indexed"),
    Kind(
        "entities of no character.html",
        lambda: _body("&#0;&#xD800;&#x110000;&#99999999999;" * 5_000),
        "indexed",
    ),
    Kind("billion laughs.html", lambda: laughs().replace(b"DOCTYPE l", b"DOCTYPE html") + _page(), "indexed"),
    Kind("a hundred thousand cells.html", lambda: _body("<table>" + "<tr>" + "<td>bee" * 100_000), "indexed"),
    Kind("a hundred thousand rows.html", lambda: _body("<table>" + "<tr><td>b<td>c" * 50_000), "indexed"),
    Kind("tables in tables.html", lambda: _body("<table><tr><td>" * 80 + "bees"), "indexed failed", "deep"),
    Kind(
        "an attribute of 10 MB.html",
        lambda: _body(f'<p title="{"b" * 10_000_000}">bees</p>'),
        "indexed failed",
        "HTML",
    ),
    Kind(
        "a hundred thousand attributes.html",
        lambda: _body("<p " + " ".join(f"a{i}=b" for i in range(100_000)) + ">bees"),
        "indexed",
    ),
    Kind(
        "attributes that look like ends.html",
        lambda: _body("<p " + " ".join(f"a{i}='>'" for i in range(150_000)) + ">bees"),
        "failed",
        "progress",
    ),
    Kind(
        "character set that is slow.html",
        lambda: (_page() + b"x-" + b"y" * 300_000).replace(b"utf-8", b"punycode"),
        "indexed",
    ),
    Kind("an open comment.html", lambda: _body("<!--" + "bees " * 500_000), "indexed"),
    Kind("comments.html", lambda: b"<!-- -->" * 900 + _page(), "indexed"),
    Kind("comments around nothing.html", lambda: b"<!---->" * 5_000, "skipped indexed", "no-text"),
    Kind("an open tag.html", lambda: _body("<p " + "<" * 500_000), "indexed"),
    Kind("an open script.html", lambda: _body("<script>" + "bees()</scrip>" * 200_000), "indexed"),
    Kind("links.html", lambda: _body("<a href=#>bee</a> " * 60_000), "indexed"),
    Kind("line breaks.html", lambda: _body("<br>" * 200_000), "indexed"),
    Kind("blank space.html", lambda: _body("bees" + " \n\t" * 700_000 + "bees"), "indexed"),
    Kind(
        "meta without end.html",
        lambda: b"<html><meta" + b"<meta charset" * 300 + b" " * 3_000_000 + _page(),
        "indexed",
    ),
    Kind("unknown character set.html", lambda: _page().replace(b"utf-8", b"x-klingon"), "indexed"),
    Kind("character set that is code.html", lambda: _page().replace(b"utf-8", b"unicode_escape"), "indexed"),
    Kind("character set that is no text.html", lambda: _page().replace(b"utf-8", b"zlib_codec"), "indexed"),
    Kind("character set that lies.html", lambda: _page().replace(b"utf-8", b"shift_jis"), "indexed"),
    Kind("a page in UTF-16 that says UTF-8.html", lambda: _page().decode().encode("utf-16"), "indexed"),
    Kind(
        "NULs and surrogates.html",
        lambda: _page().replace(b"Bees", b"B\0\xed\xa0\x80s"),
        "skipped",
        "unknown-type",
    ),
    Kind(
        "frames without a page.html",
        lambda: b"<html><frameset>" + b"<frame src=a>" * 10_000,
        "skipped",
        "no-text",
    ),
    Kind(
        "picture at its beginning.html",
        lambda: b"GIF89a" + _page(),
        "indexed skipped failed",
        "picture|unknown",
    ),
    Kind("larger than is held.html", lambda: _page() + b" " * 33 * 2**20, "indexed"),
    Kind("a comment larger than is held.html", lambda: _page() + b"<!--" + b"-" * 33 * 2**20, "indexed"),
    Kind("drawing.html", lambda: _body("<svg>" + "<path d='M0 0L1 1'/>" * 50_000 + "</svg>"), "indexed"),
    Kind("select.html", lambda: _body("<select>" + "<option>bee" * 50_000), "indexed"),
]
