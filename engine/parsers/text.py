"""Plain text and source code, decoded in pieces: a file of any size takes the same memory."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from engine.parsers.base import Format, ParseOptions, Parser
from engine.parsers.encoding import MARK_UNDECODABLE, UNDECODABLE, find_encoding
from engine.parsers.reading import Opened, Progress
from engine.parsers.sections import MAX_SECTION_CHARS, encodable, from_token, section_end, to_token
from engine.records import TextSection

#: How much is read and decoded at once, in bytes.
BLOCK_BYTES = 128 * 1024


# A table of our own: the answer must not depend on the machine's mime database.
_SUFFIXES = {
    "text/plain": "txt text log",
    "text/x-rst": "rst",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/css": "css scss less",
    "text/javascript": "js mjs cjs jsx",
    "text/x-typescript": "ts tsx",
    "text/x-python": "py pyi pyw",
    "text/x-c": "c h",
    "text/x-c++": "cc cpp cxx hh hpp hxx cu cuh",
    "text/x-csharp": "cs",
    "text/x-java": "java",
    "text/x-kotlin": "kt kts",
    "text/x-scala": "scala",
    "text/x-go": "go",
    "text/x-rust": "rs",
    "text/x-ruby": "rb",
    "text/x-perl": "pl pm",
    "text/x-php": "php",
    "text/x-r": "r",
    "text/x-lua": "lua",
    "text/x-swift": "swift",
    "text/x-haskell": "hs",
    "text/x-shellscript": "sh bash zsh",
    "text/x-sql": "sql",
    "text/x-tex": "tex ltx sty cls bib",
    "text/x-diff": "diff patch",
    "application/json": "json jsonl ndjson ipynb",
    "application/xml": "xml xsd xsl xslt svg rss atom",
    "application/yaml": "yaml yml",
    "application/toml": "toml",
}


class TextParser(Parser):
    """Text that needs no more than to be decoded."""

    name = "text"
    formats = tuple(Format(media, tuple(ends.split()), text=True) for media, ends in _SUFFIXES.items())
    kinds = frozenset({"text"})

    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[TextSection]:
        """As the contract has it; together the sections are exactly the decoded file. Raises OSError."""
        return sections(opened, options.progress, resume)


def sections(opened: Opened, progress: Progress, resume: str | None = None) -> Iterator[TextSection]:
    """The sections of a text file without its byte order mark.

    Newlines stay as they are. What can't be decoded becomes U+FFFD, as do NUL and lone surrogates.
    Raises OSError.
    """
    with opened.stream() as file:
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
        size = max(1, file.seek(0, io.SEEK_END))
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
                progress(min(1.0, file.tell() / size))
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
