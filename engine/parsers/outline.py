"""Titles and headings: in one line each, and which path of headings stands above which character."""

from __future__ import annotations

import re
from collections import deque

from engine.parsers.sections import encodable

#: Longest title or heading that is kept, in characters.
MAX_HEADING_CHARS = 256

#: So much of a heading's source is looked at, in characters.
MAX_SOURCE_CHARS = 4 * MAX_HEADING_CHARS

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def one_line(text: str) -> str:
    """A title or heading as it is kept: blanks single, control characters gone; "" where nothing is left."""
    words = _CONTROLS.sub("", " ".join(text[:MAX_SOURCE_CHARS].split()))
    return encodable(words[:MAX_HEADING_CHARS].strip())


class Outline:
    """The headings of a document, which come in the order of its text, and are taken section by section."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []
        self._coming: deque[tuple[int, int, str]] = deque()

    def add(self, at: int, level: int, text: str) -> None:
        """A heading that begins at this offset, not before the last one's; a blank one is left out."""
        if line := one_line(text):
            self._coming.append((at, level, line))

    @property
    def coming(self) -> list[tuple[int, int, str]]:
        """(offset, level, heading) of those that no section has taken yet."""
        return list(self._coming)

    def first(self) -> str | None:
        """The first heading of level 1 among those that are coming: a title where a document tells none."""
        return next((text for _, level, text in self._coming if level == 1), None)

    def take(self, start: int, end: int) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """The `headings` of the section from `start` to `end`, the next: (offset in the section, path).

        The path that earlier sections lead to is the first, at offset 0. A heading that was added only after
        its own section was taken stands at the beginning of this one.
        """
        found = {0: self._texts()} if self._path else {}
        while self._coming and self._coming[0][0] < end:
            at, level, text = self._coming.popleft()
            while self._path and self._path[-1][0] >= level:
                self._path.pop()
            self._path.append((level, text))
            found[max(0, at - start)] = self._texts()
        return tuple(found.items())

    def _texts(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._path)
