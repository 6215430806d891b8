"""What a search gives back, and what it says of an index in which it found nothing. Imports no model."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from engine.records import Hit, source_of

#: Records that `contents` looks at, and seconds that it takes, at most.
LOOKED_AT, LOOKED_AT_S = 100_000, 2.0

#: Folders that are named of an index, and those that are counted apart on the way to them.
SHOWN_FOLDERS, COUNTED_FOLDERS = 5, 500


@dataclass(frozen=True, slots=True)
class Hits:
    """The nearest texts and the nearest pictures, each best first. Iterating gives the texts, then the
    pictures; their scores have no common measure."""

    query: str
    text: tuple[Hit, ...] = ()
    image: tuple[Hit, ...] = ()

    def __iter__(self) -> Iterator[Hit]:
        yield from self.text
        yield from self.image

    def __len__(self) -> int:
        return len(self.text) + len(self.image)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index holds: its records by media type, and by the folders that their sources begin with.

    `complete` is False where only the first of many records were looked at.
    """

    records: int
    media_types: Mapping[str, int]
    folders: Mapping[str, int]
    complete: bool

    def __str__(self) -> str:
        if not self.records:
            return "the index is empty"
        first = "" if self.complete else "of the first "
        types = ", ".join(f"{count:,} {name}" for name, count in self.media_types.items())
        folders = ", ".join(self.folders)
        return f"the index holds {first}{self.records:,} records: {types}; their sources begin with {folders}"


def contents(rows: Iterable[Mapping[str, object]]) -> Contents:
    """What the rows of `Adapter.scan` tell, of as many as `LOOKED_AT` and `LOOKED_AT_S` allow."""
    until = time.monotonic() + LOOKED_AT_S
    types, folders = Counter[str](), Counter[str]()
    records, complete = 0, True
    for row in rows:
        if records == LOOKED_AT or (records % 1000 == 999 and time.monotonic() > until):
            complete = False
            break
        records += 1
        types[str(row["media_type"])] += 1
        folders[_parent(str(row["source"]))] += 1
        if len(folders) > COUNTED_FOLDERS:
            folders = _folded(folders, COUNTED_FOLDERS // 2)
    shown = _folded(_outermost(folders), SHOWN_FOLDERS)
    return Contents(records, dict(types.most_common()), dict(shown.most_common(SHOWN_FOLDERS)), complete)


def absolute_prefix(prefix: str) -> str:
    """A relative path as the sources of records have it; a `/` at its end stays. URLs are as they are."""
    if not prefix or (re.match(r"[A-Za-z][\w.+-]*://", prefix) and not prefix.startswith("file://")):
        return prefix
    if prefix.startswith("file://"):
        from engine.sources import absolute

        path = absolute(prefix)
    else:
        path = prefix
    inside = prefix.endswith("/") or os.path.basename(prefix) in (".", "..")
    whole = source_of(path)
    return whole + "/" if inside and whole != "/" else whole


def _outermost(folders: Counter[str]) -> Counter[str]:
    """Without those that lie in another one."""
    outer = Counter[str]()
    for folder, count in folders.items():
        outer[min((other for other in folders if folder.startswith(other)), key=len)] += count
    return outer


def _folded(folders: Counter[str], most: int) -> Counter[str]:
    """At most so many folders, if need be: the deepest give way to those that they are in."""
    while len(folders) > most:
        depth = max(folder.count("/") for folder in folders)
        fewer = Counter[str]()
        for folder, count in folders.items():
            fewer[_parent(folder) if folder.count("/") == depth else folder] += count
        if fewer == folders:
            break
        folders = fewer
    return folders


def _parent(source: str) -> str:
    """The folder, or bucket, that a source or folder lies in; of the outermost itself."""
    return source if source.endswith("://") else source[:-1].rpartition("/")[0] + "/"
