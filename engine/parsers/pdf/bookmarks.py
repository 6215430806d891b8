"""The title and the bookmarks of a PDF: bookmarks are headings of the pages that they lead to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

from engine.parsers.outline import one_line
from engine.parsers.reading import Progress

#: Most bookmarks that are read, and how deep.
MAX_BOOKMARKS, MAX_DEPTH = 10_000, 6

#: Most bookmarks of one page that are looked for in its text; the others stand where the last of them does.
MAX_SEARCHED = 100

#: (level from 1, title) of a page's bookmarks.
Marks: TypeAlias = Sequence[tuple[int, str]]


def title_of(document: Any) -> str | None:
    """The title that a PDFium document says it has."""
    return one_line(document.get_metadata_value("Title")) or None


def bookmarks(document: Any, progress: Progress) -> dict[int, Marks]:
    """The bookmarks of a PDFium document by the index (from 0) of their page.

    One that leads nowhere is the title of a part, and stands with the next that leads somewhere.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    waiting: list[tuple[int, str]] = []
    for bookmark in islice(document.get_toc(max_depth=MAX_DEPTH), MAX_BOOKMARKS):
        progress()
        if title := one_line(bookmark.get_title()):
            waiting.append((bookmark.level + 1, title))
        target = bookmark.get_dest()
        index = None if target is None else target.get_index()
        if index is not None:
            found.setdefault(index, []).extend(waiting)
            waiting.clear()
    return dict(found)


def placed(marks: Marks, text: str) -> Iterator[tuple[int, int, str]]:
    """(offset, level, title) of the bookmarks of a page with this text: where a line has the title, perhaps
    behind a number; else where the bookmark before stands, or the page begins.
    """
    at = 0
    for number, (level, title) in enumerate(marks):
        if number < MAX_SEARCHED:
            words = r"\s+".join(map(re.escape, title.split()))
            line = re.compile(rf"^[^\S\n]*(?:[\w.]{{1,12}}[^\S\n]+)?{words}[^\S\n]*$", re.I | re.M)
            match = line.search(text, at)
            at = match.start() if match else at
        yield at, level, title
