"""Where a text is cut into sections, the same way whatever it was extracted from."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator

#: Largest section, in characters.
MAX_SECTION_CHARS = 256 * 1024

#: How far back from the largest size a better border is looked for, in characters.
LOOK_BACK_CHARS = MAX_SECTION_CHARS // 4

#: How far back a border that nothing recommends moves so as not to split a character's parts, in characters.
MAX_CLUSTER_CHARS = 64

_NEWLINE = r"(?:\r\n|\n|\r(?!\n))"

#: Best first: paragraph, line, sentence, word. A section ends where a match ends.
_BORDERS = tuple(
    re.compile(pattern)
    for pattern in (rf"{_NEWLINE}[ \t]*{_NEWLINE}", _NEWLINE, r"[.!?…][\"'’”»)\]]*\s|[。！？]", r"\s")
)

_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def section_end(text: str) -> int:
    """The length of the first section of `text`, at most `MAX_SECTION_CHARS`; depends on no more than one
    character beyond that, so that the same text is cut the same wherever reading began.
    """
    if len(text) <= MAX_SECTION_CHARS:
        return len(text)
    for border in _BORDERS:
        end = 0
        for match in border.finditer(text, MAX_SECTION_CHARS - LOOK_BACK_CHARS, MAX_SECTION_CHARS):
            end = match.end()
        if end:
            return end - 1 if text[end - 1 : end + 1] == "\r\n" else end
    for end in range(MAX_SECTION_CHARS, MAX_SECTION_CHARS - MAX_CLUSTER_CHARS, -1):
        if not _inside_cluster(text, end):
            return end
    return MAX_SECTION_CHARS


def cut(text: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """The sections of `text` from the border `start` on, as (start, end); a resumed parse gives its own."""
    while start < len(text):
        end = start + section_end(text[start : start + MAX_SECTION_CHARS + 1])
        yield start, end
        start = end


def cut_pieces(pieces: Iterable[str], start: int = 0) -> Iterator[tuple[int, str]]:
    """The same sections of a text that comes in pieces, as (start, text); holds little more than one."""
    rest = iter(pieces)
    buffer, skip, ended = "", start, False
    while True:
        while len(buffer) <= MAX_SECTION_CHARS and not ended:
            piece = next(rest, None)
            if piece is None:
                ended = True
            else:
                buffer += piece[skip:]
                skip = max(0, skip - len(piece))
        if not buffer:
            return
        length = section_end(buffer)
        yield start, buffer[:length]
        start, buffer = start + length, buffer[length:]


def encodable(text: str) -> str:
    """The text with what no database or encoding can hold (NUL, lone surrogates) replaced one for one."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", text)
    return text


def to_token(**position: int | str | bool) -> str:
    """A parser's position as the opaque string that a section carries."""
    return json.dumps(position, separators=(",", ":"))


def from_token(token: str) -> dict[str, int | str | bool]:
    """The position that `to_token` made. Raises ValueError for anything else."""
    position = json.loads(token)
    if not isinstance(position, dict):
        raise ValueError(f"not a resume token: {token!r}")
    return position


def _inside_cluster(text: str, at: int) -> bool:
    """Whether a cut at `at` would part an accent, a joiner or a skin tone from what it belongs to."""
    before, after = text[at - 1], text[at]
    return (
        unicodedata.category(after).startswith("M")
        or _ZERO_WIDTH_JOINER in (before, after)
        or ord(after) in _SKIN_TONES
    )
