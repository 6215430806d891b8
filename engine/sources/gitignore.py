"""`.gitignore`: what a git work tree leaves out, by git's own rules.

The rules are those of `.gitignore` in each folder from the work tree's root down, and of `.git/info/exclude`;
the last pattern of the nearest file decides. A user's own list (`core.excludesFile`) is not read, and neither
is git's index: a tracked file that a pattern fits is left out all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from re import Pattern
from typing import TypeAlias

#: The rule by which they are left out.
GITIGNORE = "gitignore"

#: Folders whose patterns are remembered, and bytes of a file of patterns that are read.
_REMEMBERED, _MOST_BYTES = 256, 2**20

#: The group in a pattern's expression that holds the slash behind a folder which it fits.
_SLASH = "ps_d"


#: How the expressions of patterns begin that fit a name in any folder.
_ANYWHERE = "^(?:.+/)?"


@dataclass(frozen=True, slots=True)
class _File:
    """The patterns of one file, the last one first, each with whether it leaves out or takes back in.

    `some` is found where any of them is: most files fit none, and one search is a tenth of the time.
    """

    folder: str
    patterns: tuple[tuple[Pattern[str], bool], ...]
    some: Pattern[str]

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Whether the path is left out; None where no pattern fits it."""
        below = path[len(self.folder) :].lstrip("/")
        if not is_folder and self.some.search(below) is None:
            return None
        return next((out for pattern, out in self.patterns if _fits(pattern, below, is_folder)), None)


#: The files that count in a folder, the nearest first; None outside of work trees.
_Files: TypeAlias = tuple[_File, ...] | None


class GitIgnore:
    """Says of an entry whether a pattern fits it; what is said of the folders above it is for who walks."""

    def __init__(self) -> None:
        self._files = lru_cache(_REMEMBERED)(self._files_of)

    def leaves_out(self, path: str, is_folder: bool) -> bool:
        """Whether git would ignore this file or folder for its own name and place."""
        for file in self._files(os.path.dirname(path)) or ():
            if (verdict := file.verdict(path, is_folder)) is not None:
                return verdict
        return False

    def _files_of(self, folder: str) -> _Files:
        above = os.path.dirname(folder)
        files: _Files
        if os.path.lexists(f"{folder}/.git"):
            files = _read(folder, ".git/info/exclude")
        else:
            files = None if above == folder else self._files(above)
        return None if files is None else _read(folder, ".gitignore") + files


def _read(folder: str, name: str) -> tuple[_File, ...]:
    """The file of patterns of that name; none where it isn't there or says nothing."""
    try:
        with open(f"{folder}/{name}", "rb") as file:
            text = file.read(_MOST_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return ()
    patterns = tuple(_compiled(os.fsdecode(text)))[::-1]
    return (_File(folder, patterns, _union([pattern for pattern, _ in patterns])),) if patterns else ()


def _union(patterns: Sequence[Pattern[str]]) -> Pattern[str]:
    """Found where one of them is found. Names of groups may come only once in an expression."""
    texts = [pattern.pattern.replace(f"(?P<{_SLASH}>", "(?:") for pattern in patterns]
    named = [text.removeprefix(_ANYWHERE) for text in texts if text.startswith(_ANYWHERE)]
    others = [text for text in texts if not text.startswith(_ANYWHERE)]
    # What begins alike is tried together, once for each folder of a path.
    return re.compile("|".join([*others, *([f"{_ANYWHERE}(?:{'|'.join(named)})"] if named else [])]))


def _compiled(text: str) -> Iterator[tuple[Pattern[str], bool]]:
    # The library is loaded where there is a list to read.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    for line in text.split("\n"):
        try:
            # The library takes this for all of the folder; git only for the folders in it.
            pattern = GitIgnoreSpecPattern(re.sub(r"/\*\*/\s*$", "/**/*/", line))
        except ValueError:
            continue  # git passes over what is no pattern
        if pattern.regex is not None and pattern.include is not None:
            yield pattern.regex, pattern.include


def _fits(pattern: Pattern[str], path: str, is_folder: bool) -> bool:
    """Whether the pattern fits the entry itself: the library's expressions fit all below a folder as well,
    which would keep what was named inside of an ignored folder from being taken."""
    found = pattern.search(path)
    if found is not None and _slash(found.groupdict()) is None:
        return True
    if not is_folder:
        return False
    # A pattern for folders; one that is a slash alone is found at the end only where it is looked for there.
    ends = (pattern.search(f"{path}/", start) for start in (0, len(path)))
    return any(
        each is not None and _slash(each.groupdict()) and each.end(_SLASH) > len(path) for each in ends
    )


def _slash(groups: dict[str, str | None]) -> str | None:
    return groups.get(_SLASH)
