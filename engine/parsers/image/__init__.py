"""Pictures: how they are known, and their parser, which loads Pillow when the first one is met."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import SkipFileError
from engine.parsers.base import Format, Head, Magic, ParseOptions, Parser
from engine.parsers.reading import Opened
from engine.records import PictureSection, SectionFailure


def _is_webp(head: Head) -> bool:
    return head.data.startswith(b"RIFF") and head.data.startswith(b"WEBPVP", 8)


def _is_tiff(head: Head) -> bool:
    # Canon's raw pictures begin so too, and say what they are behind.
    return head.data.startswith((b"II*\0", b"MM\0*")) and len(head.data) > 9 and head.data[8:10] != b"CR"


def _is_bmp(head: Head) -> bool:
    # Reserved zeros, and a size of the header that follows which there is: more than two letters say.
    return head.data.startswith(b"BM") and head.data[6:10] == bytes(4) and head.data[14:18] in _BMP_HEADERS


# BITMAPCOREHEADER to BITMAPV5HEADER, little-endian (Microsoft, "Bitmap Header Types").
_BMP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]


class ImageParser(Parser):
    """Pictures at the image model's own size; a TIFF may have several, each a page."""

    name = "image"
    formats = (
        Format("image/jpeg", ("jpg", "jpeg", "jpe"), (Magic(b"\xff\xd8\xff"),)),
        # An animated one is a PNG for every reader that knows no more: its first frame.
        Format("image/png", ("png",), (Magic(b"\x89PNG"),)),
        Format("image/webp", ("webp",), (Magic(found=_is_webp),)),
        Format("image/gif", ("gif",), (Magic(b"GIF"),)),
        # Uncompressed pixels of one colour would else be UTF-16.
        Format(
            "image/tiff", ("tif", "tiff"), (Magic(found=_is_tiff, where="anything"), Magic(found=_is_tiff))
        ),
        Format("image/bmp", ("bmp",), (Magic(found=_is_bmp, where="anything"), Magic(b"BM"))),
    )
    kinds = frozenset({"image"})

    def parse(
        self, opened: Opened, media_type: str, options: ParseOptions, resume: str | None = None
    ) -> Iterator[PictureSection | SectionFailure]:
        """As the contract has it. Raises SkipFileError `no-images`, ParseError `too-many-pixels`,
        `too-many-scans`, `too-many-frames` or `damaged-image`, and OSError."""
        spec = options.image_spec()
        if spec is None:
            raise SkipFileError("no-images", "pictures are left out by --no-images")
        from engine.parsers.image.decode import sections

        yield from sections(opened, media_type, spec, options, resume)
