"""What an item is: its content decides, and its suffix only between one kind of text and another."""

from __future__ import annotations

import os
from collections.abc import Iterable

from engine.errors import SkipFileError
from engine.parsers.base import Format, Head, Magic, Where
from engine.parsers.encoding import HEAD_BYTES, looks_like_text
from engine.parsers.reading import Opened

#: What text is that no parser claims.
PLAIN_TEXT = "text/plain"

# Text by its bytes, but not for reading, and no parser of ours makes sense of it.
_UNREAD_TEXT = ((b"{\\rtf", "application/rtf"), (b"%!PS", "application/postscript"))


class Detector:
    """Finds the media type among these formats; of two that fit, the later is taken."""

    def __init__(self, formats: Iterable[Format]) -> None:
        known_formats = list(formats)
        self._by_suffix = {f".{suffix}": known for known in known_formats for suffix in known.suffixes}
        #: By where they count, in the order in which they are looked for.
        self._magic: dict[Where, list[tuple[Magic, str]]] = {}
        for known in reversed(known_formats):
            for magic in known.magic:
                self._magic.setdefault(magic.where, []).append((magic, known.media_type))

    def type_by_name(self, name: str) -> str:
        """The media type that a name promises; "" where it promises none."""
        known = self._by_suffix.get(_suffix(name))
        return known.media_type if known is not None else ""

    def detect(self, opened: Opened, name: str) -> str:
        """The media type of an item with this name. Raises SkipFileError (`empty`, `unknown-type`) and
        OSError."""
        with opened.stream() as stream:
            head = Head(stream.read(HEAD_BYTES), _suffix(name))
        if not head.data:
            raise SkipFileError("empty")
        if found := self._by_magic(head, "anything"):
            return found
        # Text comes before other marks: some are only letters, and "BM" begins many a sentence.
        return self._text_type(head) if looks_like_text(head.data) else self._binary_type(head)

    def _by_magic(self, head: Head, where: Where) -> str:
        for magic, media_type in self._magic.get(where, ()):
            if magic.matches(head):
                return media_type
        return ""

    def _text_type(self, head: Head) -> str:
        if found := self._by_magic(head, "text"):
            return found
        for mark, media_type in _UNREAD_TEXT:
            if head.data.startswith(mark):
                raise SkipFileError("unknown-type", media_type)
        known = self._by_suffix.get(head.suffix)
        if known is None or not known.text or (known.confirm is not None and not known.confirm(head)):
            return PLAIN_TEXT
        return known.media_type

    def _binary_type(self, head: Head) -> str:
        if found := self._by_magic(head, "binary"):
            return found
        import filetype

        media_type = filetype.guess_mime(head.data)
        if media_type is None and (found := self._by_magic(head, "unknown")):
            return found
        raise SkipFileError("unknown-type", media_type or "binary")


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
