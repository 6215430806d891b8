"""A file through the parser of a media type, whatever its name and content say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from engine import parsers
from engine.parsers import LocalFile, ParseOptions
from engine.records import Section, TextSection


def parse(
    media_type: str, path: str | os.PathLike[str], resume: str | None = None, **options: Any
) -> Iterator[Section]:
    """The sections; `options` are those of `ParseOptions`."""
    return parsers.parse(LocalFile(os.fspath(path)), media_type, ParseOptions(**options), resume)


def text_sections(
    media_type: str, path: str | os.PathLike[str], resume: str | None = None, **options: Any
) -> Iterator[TextSection]:
    """The same of a file that has no sections but of text."""
    for section in parse(media_type, path, resume, **options):
        assert isinstance(section, TextSection)
        yield section


def detect(path: str | os.PathLike[str]) -> str:
    """The media type of a file."""
    return parsers.detect(LocalFile(os.fspath(path)), os.fspath(path))
