"""`--files-from`: a list with one path or URL a line, each of which belongs to its own scheme's source."""

from __future__ import annotations

import codecs
import hashlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext

from engine.errors import UsageError
from engine.sources.base import Found, Item, Listing

#: The name of a list that is read from standard input.
STANDARD_INPUT = "-"


def check_manifest(name: str) -> None:
    """Raises `UsageError` where the list can't be read."""
    if name == STANDARD_INPUT:
        return
    if os.path.isdir(name):
        raise UsageError(f"--files-from {name}: a folder; give a file with one path a line, or -")
    if not os.access(name, os.R_OK):
        raise UsageError(f"--files-from {name}: no such file, or it can't be read")


def listed(manifest: str, listing_of: Callable[[str], Listing]) -> Iterator[Found]:
    """What the lines name, each item once, but for what the inputs' own listings have.

    `listing_of` gives the listing that a line belongs to. Raises `UsageError` for a list that can't be read.
    """
    with closing(sqlite3.connect("")) as seen:  # a temporary file of its own, gone with the connection
        seen.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        for name in _lines(manifest):
            for found in listing_of(name).more(name):
                # Two names can come out as one URI; whoever admits items has to tell of that.
                word = os.fsencode(found.location) if isinstance(found, Item) else found.uri.encode()
                key = hashlib.blake2b(word, digest_size=16).digest()
                if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount:
                    yield found


def _lines(name: str) -> Iterator[str]:
    try:
        with nullcontext(sys.stdin.buffer) if name == STANDARD_INPUT else open(name, "rb") as file:
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise UsageError(
                        f"--files-from {name}: line {number} holds a NUL byte; give one path a line"
                    )
                begin = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
                if text := os.fsdecode(line[begin:].rstrip(b"\r\n")):
                    yield text
    except OSError as error:
        raise UsageError(f"--files-from {name}: {(error.strerror or str(error)).lower()}") from None
