"""Which encoding a run of bytes is in, and whether it is text at all."""

from __future__ import annotations

import codecs
from typing import BinaryIO

#: How much of an item is looked at to tell what it is, in bytes.
HEAD_BYTES = 8192

#: How much is decoded to choose an encoding, in bytes.
SAMPLE_BYTES = 256 * 1024

#: How far a file is searched for its first byte that is not ASCII, which alone says something, in bytes.
SEARCH_BYTES = 16 * 1024 * 1024

#: Share of control characters from which bytes without NUL are no longer taken for text.
MAX_CONTROL_SHARE = 0.01

#: A text may have one broken byte for this many good characters beyond ASCII and still be UTF-8.
MIN_GOOD_FOR_EACH_BAD = 10

#: Encodings without a mark that are told apart, the most common first.
LEGACY_ENCODINGS = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254",
    "cp932", "euc_jp", "cp949", "gb18030", "big5",
)  # fmt: skip

#: What the detector's figure for disorder may differ by, where cp1252 is preferred to a rarer relative.
CHAOS_TOLERANCE = 0.05

#: Stands for what can't be decoded, until that is counted: no decoder makes a lone surrogate of anything.
UNDECODABLE = "\udc80"

#: The name of the handler (`errors=`) that puts it there, once where `replace` puts U+FFFD.
MARK_UNDECODABLE = "engine-mark-undecodable"

codecs.register_error(MARK_UNDECODABLE, lambda error: (UNDECODABLE, error.end))  # type: ignore[attr-defined]

# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Not among them, because text has them: tab, line ends, form feed, backspace (manual pages), escape (coloured
# logs), DOS's end mark.
_CONTROLS = bytes(set(range(1, 0x20)) - set(b"\b\t\n\v\f\r\x1a\x1b")) + b"\x7f"


def byte_order_mark(head: bytes) -> tuple[str, int]:
    """The encoding that the head's mark names, and the mark's length in bytes; ("", 0) without a mark."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    return "", 0


def looks_like_text(head: bytes) -> bool:
    """Whether a file that begins so is text in some encoding."""
    if byte_order_mark(head)[0]:
        return True
    if b"\0" in head:
        return bool(_wide_encoding(head))
    return _controls(head) <= MAX_CONTROL_SHARE * len(head)


def encoding_of(sample: bytes, whole: bool) -> str:
    """The encoding of text: by its mark, else UTF-16, UTF-32, UTF-8, else a legacy one.

    `whole` says that the text ends where the sample does, so that it can't end inside a character.
    """
    marked, _ = byte_order_mark(sample)
    if marked:
        return marked
    if b"\0" in sample[:HEAD_BYTES] and (wide := _wide_encoding(sample[:HEAD_BYTES])):
        return wide
    if _mostly_utf8(sample, whole):
        return "utf-8"
    return _legacy_encoding(sample)


def find_encoding(file: BinaryIO) -> tuple[str, int]:
    """The encoding of an open file and the length of its mark in bytes. Moves the file's position."""
    file.seek(0)
    sample = file.read(SAMPLE_BYTES)
    marked, length = byte_order_mark(sample)
    # ASCII alone fits every encoding: go on to where the file says more.
    following = sample
    while following.isascii() and b"\0" not in following and file.tell() < SEARCH_BYTES:
        following = file.read(SAMPLE_BYTES)
        if not following:
            break
    return marked or encoding_of(following, len(following) < SAMPLE_BYTES), length


def _controls(head: bytes) -> int:
    return len(head) - len(head.translate(None, _CONTROLS))


def _mostly_utf8(sample: bytes, whole: bool) -> bool:
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(sample, final=whole)
    bad = text.count("\ufffd") - sample.count("\ufffd".encode())
    if not bad:
        return True
    good = sum(character > "\x7f" for character in text) - bad
    return good >= MIN_GOOD_FOR_EACH_BAD * bad


def _wide_encoding(head: bytes) -> str:
    """UTF-32 or UTF-16 without a mark, told by how well it decodes; empty where none does."""
    if head.count(0) < len(head) // 4 and head.replace(b"\0", b"").isascii() and not _controls(head):
        return ""  # plain ASCII with stray NULs, which any pairing of bytes makes Chinese
    best, most_ascii = "", 0
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        try:
            text = codecs.getincrementaldecoder(encoding)("strict").decode(head[: len(head) // width * width])
        except UnicodeDecodeError:
            continue
        readable = sum(character.isprintable() or character in "\t\n\v\f\r" for character in text)
        # In the wrong byte order Latin text is Chinese, readable too; so the more ASCII the better.
        ascii_count = sum(character < "\x7f" for character in text)
        if ascii_count > most_ascii and readable >= (1 - MAX_CONTROL_SHARE) * len(text):
            best, most_ascii = encoding, ascii_count
    return best


def _legacy_encoding(sample: bytes) -> str:
    import charset_normalizer

    matches = charset_normalizer.from_bytes(
        sample, cp_isolation=list(LEGACY_ENCODINGS), enable_fallback=False
    )
    best = matches.best()
    if best is None:
        return "cp1252"
    # The detector can't tell cp1252 (by far the most common) from its relatives by a few accents.
    for match in matches:
        same_language = match.coherence >= best.coherence and match.chaos <= best.chaos + CHAOS_TOLERANCE
        if same_language and "cp1252" in (match.encoding, *match.could_be_from_charset):
            return "cp1252"
    return best.encoding
