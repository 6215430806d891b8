"""What a file is: its content decides, and its suffix only between one kind of text and another."""

from __future__ import annotations

import os
import re

from engine.errors import SkipFileError
from engine.parsers.encoding import HEAD_BYTES, encoding_of, looks_like_text

#: The picture types that are read. What else `filetype` knows is no type of ours.
PICTURE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/tiff", "image/bmp")

#: How far into a file its PDF mark may come, in bytes (ISO 32000-1, annex H, note 13).
PDF_MARK_BYTES = 1024

# A table of our own: the answer must not depend on the machine's mime database.
_SUFFIXES = {
    "text/markdown": "md markdown mdown mkd mdx",
    "text/x-rst": "rst",
    "text/html": "html htm xhtml xht",
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
_TYPE_OF_SUFFIX = {
    f".{suffix}": media for media, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}

# Text by its bytes, but not for reading, and no parser of ours makes sense of it.
_UNREAD_TEXT = ((b"{\\rtf", "application/rtf"), (b"%!PS", "application/postscript"))

# Possessive, or else a row of n comments could be parted in 2 ** n ways.
_HTML_START = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:<!--.*?-->\s*+)*+<(?:!doctype\s+html|html)\b", re.I | re.S
)
_ANY_TAG = re.compile(r"<[a-z!?/]", re.I)


_PLAIN = {".txt": "text/plain", ".text": "text/plain", ".log": "text/plain"}

#: Suffixes of pictures and PDFs, for who can't look into a file.
_BINARY_SUFFIXES = {
    ".pdf": "application/pdf", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".jpe": "image/jpeg",
    ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".tif": "image/tiff",
    ".tiff": "image/tiff", ".bmp": "image/bmp",
}  # fmt: skip


def type_by_name(path: str) -> str:
    """The media type that a file's name promises; "" where it promises none. The file is not opened."""
    suffix = os.path.splitext(path)[1].lower()
    return _TYPE_OF_SUFFIX.get(suffix) or _BINARY_SUFFIXES.get(suffix) or _PLAIN.get(suffix, "")


def detect(path: str) -> str:
    """The media type of a file that some parser reads.

    Raises SkipFileError with the rule `empty` (no bytes) or `unknown-type` (its detail is the type, where
    that is known), and OSError.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise SkipFileError("empty")
    if head.lstrip(b"\xef\xbb\xbf\t\n\r ").startswith(b"%PDF-"):
        return "application/pdf"
    # Text comes before the library's marks: some are only letters, and "BM" begins many a sentence.
    if looks_like_text(head):
        return _text_type(path, head)
    return _binary_type(head)


def _text_type(path: str, head: bytes) -> str:
    for mark, media_type in _UNREAD_TEXT:
        if head.startswith(mark):
            raise SkipFileError("unknown-type", media_type)
    text = head.decode(encoding_of(head, len(head) < HEAD_BYTES), "replace").lstrip("\ufeff")
    if _HTML_START.match(text):
        return "text/html"
    media_type = _TYPE_OF_SUFFIX.get(os.path.splitext(path)[1].lower(), "text/plain")
    if media_type == "text/html" and not _ANY_TAG.search(text):
        return "text/plain"
    return media_type


def _binary_type(head: bytes) -> str:
    import filetype

    media_type = filetype.guess_mime(head)
    if media_type == "image/apng":  # its first frame is a PNG, for every reader that knows no more
        media_type = "image/png"
    if media_type in PICTURE_TYPES:
        return str(media_type)
    if media_type is None and b"%PDF-" in head[:PDF_MARK_BYTES]:
        return "application/pdf"
    raise SkipFileError("unknown-type", media_type or "binary")
