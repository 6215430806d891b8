"""What the streams of a PDF inflate to, counted without reading the document.

PDFium inflates a stream whole, and aborts its process where memory does not suffice.
"""

from __future__ import annotations

import binascii
import os
import re
import zlib
from collections.abc import Iterable, Iterator

from engine.errors import ParseError
from engine.parsers.reading import BLOCK_BYTES, Progress, no_progress

#: Largest stream once inflated, in bytes: far more than the content of a page or a font has.
MAX_INFLATED_BYTES = 128 * 1024 * 1024

#: Most that deflate makes of one byte (zlib's technical notes).
MAX_RATIO = 1032

#: Filters one after another that are followed.
MAX_FILTERS = 8

#: How far before its data a stream's dictionary is looked for, in bytes.
DICTIONARY_BYTES = 2048

#: Bytes that tell whether inflated data is compressed once more.
HEAD_BYTES = 64

_WORD = b"stream"
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")
_HEXADECIMAL = re.compile(rb"/(?:ASCIIHexDecode|AHx)\b")
_FILTER = re.compile(rb"/(?:FlateDecode|Fl)\b")


class _TooFarError(Exception):
    """More than `MAX_INFLATED_BYTES`."""


def check_streams(file: int, progress: Progress = no_progress) -> None:
    """Look at every stream of the open file but pictures, which nothing here decodes.

    Raises ParseError `inflates-too-far`. What zlib data does not show (LZW, encrypted streams) is not seen.
    """
    begin = -1
    for at in _words(file, progress):
        if os.pread(file, 3, max(0, at - 3)) != b"end":
            begin = at
        elif begin >= 0:
            try:
                _check(file, begin, at - 3, progress)
            except _TooFarError:
                limit = MAX_INFLATED_BYTES // 1024**2
                raise ParseError(
                    "inflates-too-far",
                    f"not a readable PDF: a stream in it inflates to more than {limit} MiB",
                ) from None
            begin = -1


def _words(file: int, progress: Progress) -> Iterator[int]:
    """Where the word `stream` stands."""
    start = 0
    while block := os.pread(file, BLOCK_BYTES, start):
        at = block.find(_WORD)
        while at >= 0:
            yield start + at
            at = block.find(_WORD, at + len(_WORD))
        progress()
        if len(block) < BLOCK_BYTES:
            return
        start += BLOCK_BYTES - len(_WORD) + 1


def _check(file: int, word: int, end: int, progress: Progress) -> None:
    before = os.pread(file, min(word, DICTIONARY_BYTES), max(0, word - DICTIONARY_BYTES))
    dictionary = before[before.rfind(b"obj") + 1 :]
    if _IMAGE.search(dictionary):
        return
    begin = word + len(_WORD)
    line_end = os.pread(file, 2, begin)
    begin += len(line_end) - len(line_end.lstrip(b"\r\n"))
    pieces: Iterator[bytes] = _pieces(file, begin, end, progress)
    if _HEXADECIMAL.search(dictionary):
        pieces = _from_hexadecimal(pieces)
    head = next(pieces, b"")
    nested = len(_FILTER.findall(dictionary)) > 1 or _looks_deflated(_inflated_head(head))
    if _looks_deflated(head) and (nested or (end - begin) * MAX_RATIO > MAX_INFLATED_BYTES):
        _count(_chain(head, pieces))


def _count(data: Iterable[bytes]) -> None:
    """Inflate, and inflate again what looks deflated, and keep nothing of it."""
    pieces = iter(data)
    for _ in range(MAX_FILTERS):
        pieces = _inflate(pieces)
        head = next(pieces, b"")
        if not _looks_deflated(head):
            break
        pieces = _chain(head, pieces)
    for _ in pieces:
        pass


def _inflate(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The inflated bytes, as far as they are whole."""
    inflater = zlib.decompressobj()
    total = 0
    try:
        for piece in pieces:
            rest = piece
            while rest and not inflater.eof:
                out = inflater.decompress(rest, BLOCK_BYTES)
                total += len(out)
                if total > MAX_INFLATED_BYTES:
                    raise _TooFarError
                if out:
                    yield out
                rest = inflater.unconsumed_tail
    except zlib.error:
        return


def _inflated_head(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data[:BLOCK_BYTES], HEAD_BYTES)
    except zlib.error:
        return b""


def _looks_deflated(data: bytes) -> bool:
    """Whether data has zlib's header (RFC 1950, 2.2)."""
    return len(data) > 1 and data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0


def _pieces(file: int, begin: int, end: int, progress: Progress) -> Iterator[bytes]:
    for at in range(begin, end, BLOCK_BYTES):
        yield os.pread(file, min(BLOCK_BYTES, end - at), at)
        progress()


def _from_hexadecimal(pieces: Iterable[bytes]) -> Iterator[bytes]:
    odd = b""
    for piece in pieces:
        digits = odd + re.sub(rb"[^0-9A-Fa-f]", b"", piece)
        whole = len(digits) // 2 * 2
        odd = digits[whole:]
        yield binascii.unhexlify(digits[:whole])


def _chain(head: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest
