"""Plain text, Markdown and source code, decoded in pieces: a file of any size takes the same memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from engine.parsers.encoding import MARK_UNDECODABLE, UNDECODABLE, find_encoding
from engine.parsers.reading import Progress, no_progress
from engine.parsers.sections import MAX_SECTION_CHARS, encodable, from_token, section_end, to_token
from engine.records import TextSection

#: How much is read and decoded at once, in bytes.
BLOCK_BYTES = 128 * 1024


def parse(path: str, resume: str | None = None, progress: Progress = no_progress) -> Iterator[TextSection]:
    """The sections of a text file; together they are exactly the decoded file, without a byte order mark.

    Newlines stay as they are. What can't be decoded becomes U+FFFD, as do NUL and lone surrogates.
    Raises OSError.
    """
    with open(path, "rb") as file:
        unit = start = skip = state = 0
        if resume is None:
            encoding, offset = find_encoding(file)
        else:
            at = from_token(resume)
            encoding = str(at["encoding"])
            unit, start, skip, state, offset = (
                int(at[k]) for k in ("unit", "start", "skip", "state", "byte")
            )
        decoder = codecs.getincrementaldecoder(encoding)(MARK_UNDECODABLE)
        decoder.setstate((b"", state))
        file.seek(offset)

        # The decoder's last known position at or before the section's end: (character, byte, state).
        marks = [(start - skip, offset, state)]
        decoded = start - skip
        buffer = ""
        ended = False
        while True:
            while len(buffer) <= MAX_SECTION_CHARS and not ended:
                pending, state = decoder.getstate()
                marks.append((decoded, file.tell() - len(pending), state))
                # Blocks end at multiples of their size, wherever reading began: so do a resumed parse's.
                block = file.read(BLOCK_BYTES - file.tell() % BLOCK_BYTES)
                ended = not block
                progress()
                piece = decoder.decode(block, final=ended)
                decoded += len(piece)
                buffer += piece[skip:]
                skip = max(0, skip - len(piece))
            if not buffer:
                return
            length = section_end(buffer)
            end = start + length
            marks = [mark for i, mark in enumerate(marks) if i + 1 == len(marks) or marks[i + 1][0] > end]
            character, byte, state_there = marks[0]
            unit += 1
            token = to_token(
                unit=unit, start=end, skip=end - character, byte=byte, state=state_there, encoding=encoding
            )
            text, buffer = buffer[:length], buffer[length:]
            yield TextSection(unit - 1, None, start, encodable(text), token, text.count(UNDECODABLE))
            start = end
