"""The registry of parsers: a file in, a lazy stream of sections out.

Each format's module is imported when its first file is met, so that a corpus of text loads no PDF or picture
library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import SkipFileError
from engine.models.spec import ImageSpec
from engine.parsers.media import PICTURE_TYPES, detect
from engine.parsers.reading import Progress, no_progress
from engine.records import Kind, Section

__all__ = ["ParseOptions", "detect", "kind_of", "parse"]


@dataclass(frozen=True, slots=True)
class ParseOptions:
    """What parsers need to know of the run.

    `picture` says what pictures are made into; without it they are skipped by the rule `no-image-model`.
    `exact_images` decodes JPEGs in full, so that vectors equal open_clip's to rounding. `tolerate_truncated`
    takes what there is of a picture that ends too early. `progress` is called for each block, page or frame
    that is read, whether anything comes of it or not.
    """

    picture: ImageSpec | None = None
    exact_images: bool = False
    tolerate_truncated: bool = False
    progress: Progress = no_progress


def kind_of(media_type: str) -> Kind:
    """Which model embeds a file of this type."""
    return "image" if media_type in PICTURE_TYPES else "text"


def parse(path: str, media_type: str, options: ParseOptions, resume: str | None = None) -> Iterator[Section]:
    """The sections of a file whose type `detect` told, in order; nothing is read before the first is wanted.

    With `resume`, a section's own token, those that follow that section, exactly as without it.
    Raises ParseError (the rest of the file can't be had), SkipFileError (a rule leaves it out) and OSError
    (the file is gone or can't be read).
    """
    if media_type in PICTURE_TYPES:
        if options.picture is None:
            raise SkipFileError("no-image-model", media_type)
        from engine.parsers import image

        yield from image.parse(
            path,
            media_type,
            options.picture,
            options.exact_images,
            options.tolerate_truncated,
            resume,
            options.progress,
        )
    elif media_type == "application/pdf":
        from engine.parsers import pdf

        yield from pdf.parse(path, resume, options.progress)
    elif media_type == "text/html":
        from engine.parsers import html

        yield from html.parse(path, resume, options.progress)
    else:
        from engine.parsers import text

        yield from text.parse(path, resume, options.progress)
