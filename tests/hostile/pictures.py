"""Hostile JPEG, PNG, WebP, GIF, TIFF and BMP."""

from __future__ import annotations

import struct
import zlib
from functools import partial

from tests.hostile.kind import Kind, cuts, flips
from tests.hostile.picture_parts import (
    DIRECTORY_BYTES,
    FORMATS,
    GIF_FRAME,
    animation,
    bmp,
    bomb,
    canvas,
    chunk,
    directory,
    exif,
    frames,
    gif,
    many_scans,
    many_texts,
    marker,
    metadata,
    one_bad_frame,
    png,
    resized_jpeg,
    saved,
    tiff,
    webp,
)

_PICTURE = "not a readable picture|pixels"

KINDS = [
    *(
        kind
        for suffix in FORMATS
        for kind in cuts(f"photo.{suffix}", partial(saved, suffix), "failed indexed", _PICTURE)
    ),
    *(
        kind
        for suffix in FORMATS
        for kind in flips(f"photo.{suffix}", partial(saved, suffix), "failed indexed", _PICTURE)
    ),
    # PNG
    Kind("as large as can be said.png", lambda: png(2**31 - 1, 2**31 - 1), "failed", "pixels"),
    Kind("no width.png", lambda: png(0, 10), "failed", _PICTURE),
    Kind("no height.png", lambda: png(10, 0), "failed", _PICTURE),
    Kind(
        "bomb within the limit of pixels.png",
        lambda: png(3000, 3000, data=bomb(30)),
        "indexed failed",
        "memory",
    ),
    Kind("data that goes on.png", lambda: png(10, 10, data=bomb(80)), "indexed"),
    Kind(
        "text that inflates.png",
        lambda: png(10, 10, chunk(b"zTXt", b"Comment\0\0" + bomb(80))),
        "indexed failed",
        "metadata",
    ),
    Kind(
        "unicode text that inflates.png",
        lambda: png(10, 10, chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb(80))),
        "indexed failed",
        "metadata",
    ),
    Kind(
        "colour profile that inflates.png",
        lambda: png(10, 10, chunk(b"iCCP", b"icc\0\0" + bomb(80))),
        "indexed failed",
        "metadata",
    ),
    Kind(
        "colour profile of noise.png",
        lambda: png(10, 10, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(range(256)) * 9))),
        "indexed",
    ),
    Kind("three thousand texts.png", many_texts, "indexed"),
    Kind(
        "a chunk longer than the file.png",
        lambda: png(10, 10)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXtbees",
        "failed",
        _PICTURE,
    ),
    Kind(
        "palette of nothing.png",
        lambda: png(10, 10, colour=3, data=zlib.compress(bytes(110))),
        "indexed failed",
        _PICTURE,
    ),
    Kind(
        "frames that are claimed.png",
        lambda: png(10, 10, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "indexed",
    ),
    Kind(
        "wrong sums.png",
        lambda: png(10, 10).replace(b"IDAT", b"IDAT")[:-8] + b"\0" * 8,
        "indexed failed",
        _PICTURE,
    ),
    Kind("one pixel high.png", lambda: png(300_000, 1), "indexed"),
    # GIF
    Kind("as large as can be said.gif", lambda: gif(65535, 65535, GIF_FRAME), "failed", "pixels"),
    Kind("no size.gif", lambda: gif(0, 0, b""), "failed", _PICTURE),
    Kind("a hundred thousand frames.gif", lambda: gif(2, 2, GIF_FRAME * 100_000), "indexed"),
    Kind(
        "a frame larger than the picture.gif",
        lambda: gif(2, 2, GIF_FRAME.replace(b"\x02\0\x02\0", b"\xff\xff\xff\xff")),
        "failed",
        "pixels|picture",
    ),
    Kind(
        "comments.gif",
        lambda: gif(2, 2, b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0" + GIF_FRAME),
        "indexed",
    ),
    Kind(
        "blocks without end.gif", lambda: gif(2, 2, b"!\xfe" + b"\x01a" * 50_000), "indexed failed", _PICTURE
    ),
    Kind("without a frame.gif", lambda: gif(5, 5, b""), "failed", _PICTURE),
    # TIFF
    Kind(
        "as large as can be said.tiff",
        lambda: tiff([directory(2**31 - 1, 2**31 - 1, 8, 100)], [-1]),
        "failed",
        "pixels",
    ),
    Kind("no size.tiff", lambda: tiff([directory(0, 0, 8, 0)], [-1]), "failed", _PICTURE),
    Kind(
        "bomb.tiff",
        lambda: tiff([directory(60_000, 60_000, 8 + DIRECTORY_BYTES, 10**6, 8)], [-1], bomb(300)),
        "failed",
        "pixels",
    ),
    Kind(
        "bomb within the limit of pixels.tiff",
        lambda: tiff([directory(9000, 9000, 8 + DIRECTORY_BYTES, len(bomb(80)), 8)], [-1], bomb(80)),
        "indexed failed",
        "memory|picture",
    ),
    Kind(
        "directory that is its own next.tiff",
        lambda: tiff([directory(2, 2, 8 + DIRECTORY_BYTES, 4)], [0], bytes(range(4))),
        "indexed",
    ),
    Kind("directories in a circle.tiff", lambda: frames(20, loop=True), "indexed"),
    Kind("twenty thousand frames.tiff", lambda: frames(20_000), "partial", "frames"),
    Kind("one bad frame of five.tiff", one_bad_frame, "partial", "picture"),
    Kind("directory behind the end.tiff", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), "failed", _PICTURE),
    Kind("strip behind the end.tiff", lambda: tiff([directory(2, 2, 2**31, 4)], [-1]), "failed", _PICTURE),
    Kind(
        "tag of four billion values.tiff",
        lambda: tiff([[*directory(2, 2, 200, 4), (700, 1, 2**32 - 1, 8)]], [-1], bytes(400)),
        "indexed failed",
        _PICTURE,
    ),
    Kind("tags without end.tiff", lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(2000), "failed", _PICTURE),
    Kind(
        "unknown compression.tiff",
        lambda: tiff([directory(2, 2, 200, 4, 999)], [-1], bytes(100)),
        "failed",
        _PICTURE,
    ),
    # WebP
    Kind(
        "as large as can be said.webp",
        lambda: webp(canvas(16384, 16384), (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + saved("webp")[12:])),
        "failed",
        "pixels",
    ),
    Kind("twenty thousand frames.webp", lambda: animation(20_000), "indexed"),
    Kind(
        "frames of nothing.webp",
        lambda: webp(canvas(50, 50), (b"ANIM", bytes(6)), *[(b"ANMF", bytes(16))] * 1000),
        "failed",
        _PICTURE,
    ),
    Kind(
        "profile of 5 MB.webp",
        lambda: webp(
            canvas(120, 90, 0x20), (b"ICCP", bytes(5 * 2**20)), (saved("webp")[12:16], saved("webp")[20:])
        ),
        "indexed",
    ),
    Kind(
        "a chunk longer than the file.webp",
        lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8L\xff\xff\xff\x7f/" + bytes(100),
        "failed",
        _PICTURE,
    ),
    # JPEG
    Kind("larger than its data.jpg", lambda: resized_jpeg(20_000, 20_000), "indexed"),
    Kind(
        "as large as can be said and progressive.jpg",
        lambda: resized_jpeg(65500, 65500, progressive=True),
        "failed",
        "pixels",
    ),
    Kind("no size.jpg", lambda: resized_jpeg(0, 0), "failed", _PICTURE),
    Kind("thousands of scans.jpg", lambda: many_scans(5000), "failed", "scans"),
    Kind("three hundred profiles.jpg", lambda: metadata(300), "indexed"),
    Kind("metadata larger than the file.jpg", lambda: exif(500), "indexed"),
    Kind(
        "comments alone.jpg",
        lambda: b"\xff\xd8" + marker(0xFE, bytes(60_000)) * 200 + b"\xff\xd9",
        "failed",
        _PICTURE,
    ),
    Kind("markers of fill.jpg", lambda: b"\xff\xd8" + b"\xff" * 20_000, "indexed failed", _PICTURE),
    Kind(
        "no tables.jpg",
        lambda: saved("jpg").replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe"),
        "failed",
        _PICTURE,
    ),
    # BMP
    Kind("as large as can be said.bmp", lambda: bmp(2**31 - 1, 2**31 - 1), "failed", "pixels"),
    Kind("less than no height.bmp", lambda: bmp(10, -(2**31)), "failed", "pixels|picture"),
    Kind("no size.bmp", lambda: bmp(0, 0), "failed", _PICTURE),
    Kind("runs without end.bmp", lambda: bmp(9000, 9000, 8, 1, b"\xff\x01" * 1000, 256), "failed", _PICTURE),
    Kind("palette of two billion.bmp", lambda: bmp(10, 10, 8, 0, bytes(2000), 2**31 - 1), "failed", _PICTURE),
    # Names that lie
    Kind("page.png", lambda: b"<!doctype html><html><p>bees " + b"and bees " * 50, "indexed"),
    Kind("picture.txt", lambda: saved("png"), "indexed"),
    Kind("picture and archive.jpg", lambda: saved("jpg") + b"PK\x03\x04" + bytes(500), "indexed"),
]
