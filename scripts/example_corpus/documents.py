"""Documents of the example corpus as bytes: text in several encodings, Markdown, HTML and PDF."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .pdf import PAGE_HEIGHT, PAGE_WIDTH, Page, document, wrap
from .prose import Original, vegetable_page, vegetables

#: Points from the edge of a PDF page to its text, and between two lines.
MARGIN, LEADING = 64, 14.5

#: Pixels across a scanned page, and its JPEG quality.
SCAN_WIDTH, SCAN_QUALITY = 900, 40

_HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>body {{ font-family: serif; margin: 2em auto; max-width: 40em }} nav a {{ color: #884400 }}</style>
<script>window.settings = {{"theme": "light", "tracking": false}}; function toggleMenu() {{ return 1; }}</script>
</head>
<body>
<header><a href="/">The Paper Lantern</a></header>
<nav><ul><li><a href="/new">Newest</a></li><li><a href="/topics">Topics</a></li><li><a href="/about">About us</a></li>
<li><a href="/subscribe">Subscribe to our newsletter</a></li></ul></nav>
<main>
<article>
<h1>{title}</h1>
{body}
</article>
</main>
<aside><h2>Most read</h2><ul><li><a href="/a">Ten ways to fold a napkin</a></li><li><a href="/b">Win a kettle</a></li></ul></aside>
<footer><p>We use cookies. <button onclick="toggleMenu()">Accept all</button></p><p>Imprint · Privacy</p></footer>
<script>document.querySelectorAll("nav a").forEach((a) => a.addEventListener("click", toggleMenu));</script>
</body>
</html>
"""  # noqa: E501 - a page as pages are


def plain(title: str, paragraphs: list[str] | tuple[str, ...]) -> str:
    """Plain text."""
    return "\n\n".join([title, *paragraphs]) + "\n"


def markdown(title: str, paragraphs: list[str] | tuple[str, ...]) -> str:
    """Markdown with one heading."""
    return plain(f"# {title}", paragraphs)


def html(title: str, paragraphs: list[str] | tuple[str, ...]) -> str:
    """A page of a web site, with all that surrounds the article there."""
    return _HTML.format(title=title, body="\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs))


def recipe(original: Original) -> str:
    """A recipe as a web page; its heading has title, portions and time, its first line the ingredients."""
    title, portions, time = original.fields
    ingredients, *steps = original.paragraphs
    items = "".join(f"<li>{item}</li>" for item in ingredients.split("; "))
    body = f"<p>For {portions}. Time: {time}.</p>\n<h2>Ingredients</h2>\n<ul>{items}</ul>\n<h2>Method</h2>\n"
    return _HTML.format(title=title, body=body + "\n".join(f"<p>{step}</p>" for step in steps))


def essay_pdf(title: str, paragraphs: list[str] | tuple[str, ...], password: str = "") -> bytes:
    """One column, as many pages as it takes."""
    return document(_columns(title, list(paragraphs), 1), title, password)


def two_columns(title: str, essays: list[Original]) -> bytes:
    """A journal: two columns to a page, so that a line across the page belongs to two texts."""
    paragraphs = [text for essay in essays for text in (essay.title.upper(), *essay.paragraphs)]
    return document(_columns(title, paragraphs, 2), title)


def handbook(rng: random.Random) -> bytes:
    """The garden handbook of 40 pages: one vegetable a page, with running head and page number."""
    pages = []
    for number, row in enumerate(vegetables(), 1):
        page = Page()
        page.text(MARGIN, 40, "The Kitchen Garden Handbook", 8)
        page.text(PAGE_WIDTH - MARGIN - 10, 40, str(number), 8)
        page.text(MARGIN, 92, row["name"].capitalize(), 20, bold=True)
        y = 124.0
        for paragraph in vegetable_page(row, rng):
            for line in wrap(paragraph, PAGE_WIDTH - 2 * MARGIN):
                page.text(MARGIN, y, line)
                y += LEADING
            y += 8
        pages.append(page)
    return document(pages, "The Kitchen Garden Handbook")


def ruled_tables() -> bytes:
    """Two pages, each with a ruled table between two paragraphs."""
    rows = vegetables()
    order = [("Article", "Packets", "Price each", "Sum")]
    prices = [
        (row["name"].capitalize(), 1 + index % 4, 1.2 + index % 7 * 0.35)
        for index, row in enumerate(rows[:18])
    ]
    order += [
        (f"{name} seed", str(count), f"{price:.2f}", f"{count * price:.2f}") for name, count, price in prices
    ]
    order.append(("Total", "", "", f"{sum(count * price for _, count, price in prices):.2f}"))
    calendar = [("Vegetable", "Sow", "Depth (cm)", "Apart (cm)", "Weeks")]
    calendar += [
        (row["name"].capitalize(), row["sow"], row["depth cm"], row["apart cm"], row["weeks to harvest"])
        for row in rows[18:36]
    ]
    first = _table_page("Seed order of the allotment society", order, (190, 80, 90, 90))
    second = _table_page("Sowing calendar, second part", calendar, (120, 160, 65, 65, 55))
    return document([first, second], "Seed order and sowing calendar")


def _table_page(title: str, rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> Page:
    page = Page()
    page.text(MARGIN, 80, title, 16, bold=True)
    page.text(MARGIN, 110, "All figures as agreed at the meeting in January; changes go to the secretary.")
    top, height, right = 130, 20, MARGIN + sum(widths)
    for line, row in enumerate(rows):
        page.rule(MARGIN, top + line * height, right, top + line * height)
        x = MARGIN
        for cell, width in zip(row, widths, strict=True):
            page.text(x + 5, top + line * height + 14, cell, 9.5, bold=line == 0)
            x += width
    bottom = top + len(rows) * height
    page.rule(MARGIN, bottom, right, bottom)
    for column in range(len(widths) + 1):
        x = MARGIN + sum(widths[:column])
        page.rule(x, top, x, bottom)
    page.text(MARGIN, bottom + 30, "Packets that are left over go into the tin in the tool shed.")
    return page


def scanned(title: str, paragraphs: tuple[str, ...]) -> bytes:
    """A page as a scanner gives it: a picture, slightly turned and grained, without any text."""
    height = round(SCAN_WIDTH * PAGE_HEIGHT / PAGE_WIDTH)
    picture = Image.new("L", (SCAN_WIDTH, height), 244)
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(17)
    y = 90
    for paragraph in (title, *paragraphs):
        for line in wrap(paragraph, 440):
            pen.text((90, y), line, 40, font)
            y += 26
        y += 16
    picture = picture.rotate(0.7, Image.Resampling.BICUBIC, fillcolor=244)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=SCAN_QUALITY)
    page = Page()
    page.jpeg(stream.getvalue(), *picture.size)
    return document([page], "scan")


def _columns(title: str, paragraphs: list[str], columns: int) -> list[Page]:
    gap = 24
    width = (PAGE_WIDTH - 2 * MARGIN - gap * (columns - 1)) / columns
    size = 10.5 if columns == 1 else 9.5
    lines = [line for paragraph in paragraphs for line in (*wrap(paragraph, width, size), "")]
    top, bottom = 120.0, PAGE_HEIGHT - 60
    room = int((bottom - top) / LEADING)
    pages = []
    for start in range(0, len(lines), room * columns):
        page = Page()
        page.text(MARGIN, 84, title, 16, bold=True)
        for column in range(columns):
            x = MARGIN + column * (width + gap)
            here = lines[start + column * room : start + (column + 1) * room]
            for row, line in enumerate(here):
                if line:
                    page.text(x, top + row * LEADING, line, size)
        pages.append(page)
    return pages
