"""Hostile JPEG, PNG, WebP, GIF, TIFF and BMP."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.hostile.kind import Kind, cuts, flips

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP"}


@cache
def photo(width: int = 120, height: int = 90) -> Image.Image:
    """A noisy gradient, which no format makes small."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).integers(0, 60, (height, width, 3))
    return Image.fromarray((np.stack([x, y, x + y], -1) % 190 + noise).astype(np.uint8))


def saved(suffix: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    (image or photo()).save(out, FORMATS[suffix], **options)
    return out.getvalue()


# PNG


def chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, data: bytes | None = None, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of any size, its data black rows by default."""
    if data is None:
        data = zlib.compress(bytes((3 * width + 1) * height)) if width * height < 10**6 else zlib.compress(bytes(1000))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@cache
def bomb(mebibytes: int) -> bytes:
    """zlib data that inflates to zeros."""
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(2**20)) for _ in range(mebibytes)), deflate.flush()])


def _many_texts() -> bytes:
    texts = PngInfo()
    for i in range(3000):
        texts.add_text(f"key {i}", "bees " * 200)
    return saved("png", pnginfo=texts)


# TIFF


def tiff(directories: list[list[tuple[int, int, int, int]]], following: list[int], body: bytes = b"") -> bytes:
    """Little-endian TIFF: directories of (tag, type, count, value) at 8, 8 + size, ...; `following` says which
    one is next (-1: none)."""
    offsets, at = [], 8
    for entries in directories:
        offsets.append(at)
        at += 2 + 12 * len(entries) + 4
    out = [b"II*\0", struct.pack("<I", 8)]
    for entries, after in zip(directories, following, strict=True):
        out.append(struct.pack("<H", len(entries)))
        out += [struct.pack("<HHII", *entry) for entry in entries]
        out.append(struct.pack("<I", offsets[after] if after >= 0 else 0))
    return b"".join(out) + body


def _directory(width: int, height: int, strip: int, size: int, compression: int = 1) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, size),
    ]  # fmt: skip


_SIZE = 2 + 12 * 9 + 4


def _frames(count: int, loop: bool = False) -> bytes:
    """Frames of 2 x 2 pixels that share one strip."""
    at = 8 + count * _SIZE
    following = [*range(1, count), 0 if loop else -1]
    return tiff([_directory(2, 2, at, 4)] * count, following, bytes([0, 80, 160, 240]))


def _one_bad_frame() -> bytes:
    frames = [photo(40 + i, 30) for i in range(5)]
    data = bytearray(saved("tiff", frames[0], save_all=True, append_images=frames[1:], compression="tiff_deflate"))
    second = data.index(zlib.compress(b"", 6)[:2], len(data) // 3)
    data[second : second + 200] = bytes(200)
    return bytes(data)


# GIF


def _gif(width: int, height: int, blocks: bytes) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + blocks + b";"


_GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02\x03\x44\x84\x05\x00"


# WebP


def _webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _canvas(width: int, height: int, flags: int = 0x02) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _animation(frames: int) -> bytes:
    image = _webp_data(Image.new("RGB", (2, 2), "red"))
    frame = bytes(6) + (1).to_bytes(3, "little") * 2 + (10).to_bytes(3, "little") + b"\0" + image
    return _webp(_canvas(2, 2), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * frames)


def _webp_data(image: Image.Image) -> bytes:
    return saved("webp", image, lossless=True)[12:]


# JPEG


def _marker(code: int, data: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def _resized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(saved("jpg", **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last refinement scan comes again and again."""
    data = _resized_jpeg(6000, 6000, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def _metadata(count: int) -> bytes:
    data = saved("jpg")
    return data[:2] + b"".join(_marker(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(65_000)) for _ in range(count)) + data[2:]


def _exif(entries: int) -> bytes:
    directory = struct.pack("<H", entries) + struct.pack("<HHII", 0x9286, 7, 0x7FFFFFFF, 8) * entries
    return saved("jpg")[:2] + _marker(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + directory) + saved("jpg")[2:]


# BMP


def _bmp(width: int, height: int, depth: int = 24, compression: int = 0, body: bytes = b"", colours: int = 0) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(body), 2835, 2835, colours, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body


_PICTURE = "not a readable picture|pixels"

KINDS = [
    *(kind for suffix in FORMATS for kind in cuts(f"photo.{suffix}", lambda suffix=suffix: saved(suffix), "failed indexed", _PICTURE)),  # type: ignore[misc]
    *(kind for suffix in FORMATS for kind in flips(f"photo.{suffix}", lambda suffix=suffix: saved(suffix), "failed indexed", _PICTURE)),  # type: ignore[misc]
    # PNG
    Kind("as large as can be said.png", lambda: png(2**31 - 1, 2**31 - 1), "failed", "pixels"),
    Kind("no width.png", lambda: png(0, 10), "failed", _PICTURE),
    Kind("no height.png", lambda: png(10, 0), "failed", _PICTURE),
    Kind("bomb within the limit of pixels.png", lambda: png(5000, 5000, data=bomb(80)), "indexed failed", "memory"),
    Kind("data that goes on.png", lambda: png(10, 10, data=bomb(80)), "indexed"),
    Kind("text that inflates.png", lambda: png(10, 10, chunk(b"zTXt", b"Comment\0\0" + bomb(80))), "indexed failed", "metadata"),
    Kind("unicode text that inflates.png", lambda: png(10, 10, chunk(b"iTXt", b"Comment\0\1\0\0\0" + bomb(80))), "indexed failed", "metadata"),
    Kind("colour profile that inflates.png", lambda: png(10, 10, chunk(b"iCCP", b"icc\0\0" + bomb(80))), "indexed failed", "metadata"),
    Kind("colour profile of noise.png", lambda: png(10, 10, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(range(256)) * 9))), "indexed"),
    Kind("three thousand texts.png", _many_texts, "indexed"),
    Kind("a chunk longer than the file.png", lambda: png(10, 10)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXtbees", "failed", _PICTURE),
    Kind("palette of nothing.png", lambda: png(10, 10, colour=3, data=zlib.compress(bytes(110))), "indexed failed", _PICTURE),
    Kind("frames that are claimed.png", lambda: png(10, 10, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), "indexed"),
    Kind("wrong sums.png", lambda: png(10, 10).replace(b"IDAT", b"IDAT")[:-8] + b"\0" * 8, "indexed failed", _PICTURE),
    Kind("one pixel high.png", lambda: png(300_000, 1), "indexed"),
    # GIF
    Kind("as large as can be said.gif", lambda: _gif(65535, 65535, _GIF_FRAME), "failed", "pixels"),
    Kind("no size.gif", lambda: _gif(0, 0, b""), "failed", _PICTURE),
    Kind("a hundred thousand frames.gif", lambda: _gif(2, 2, _GIF_FRAME * 100_000), "indexed"),
    Kind("a frame larger than the picture.gif", lambda: _gif(2, 2, _GIF_FRAME.replace(b"\x02\0\x02\0", b"\xff\xff\xff\xff")), "failed", "pixels|picture"),
    Kind("comments.gif", lambda: _gif(2, 2, b"!\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0" + _GIF_FRAME), "indexed"),
    Kind("blocks without end.gif", lambda: _gif(2, 2, b"!\xfe" + b"\x01a" * 50_000), "indexed failed", _PICTURE),
    Kind("without a frame.gif", lambda: _gif(5, 5, b""), "failed", _PICTURE),
    # TIFF
    Kind("as large as can be said.tiff", lambda: tiff([_directory(2**31 - 1, 2**31 - 1, 8, 100)], [-1]), "failed", "pixels"),
    Kind("no size.tiff", lambda: tiff([_directory(0, 0, 8, 0)], [-1]), "failed", _PICTURE),
    Kind("bomb.tiff", lambda: tiff([_directory(60_000, 60_000, 8 + _SIZE, 10**6, 8)], [-1], bomb(300)), "failed", "pixels"),
    Kind("bomb within the limit of pixels.tiff", lambda: tiff([_directory(9000, 9000, 8 + _SIZE, len(bomb(80)), 8)], [-1], bomb(80)), "indexed failed", "memory|picture"),
    Kind("directory that is its own next.tiff", lambda: tiff([_directory(2, 2, 8 + _SIZE, 4)], [0], bytes(range(4))), "indexed"),
    Kind("directories in a circle.tiff", lambda: _frames(20, loop=True), "indexed"),
    Kind("twenty thousand frames.tiff", lambda: _frames(20_000), "partial", "frames"),
    Kind("one bad frame of five.tiff", _one_bad_frame, "partial", "picture"),
    Kind("directory behind the end.tiff", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100), "failed", _PICTURE),
    Kind("strip behind the end.tiff", lambda: tiff([_directory(2, 2, 2**31, 4)], [-1]), "failed", _PICTURE),
    Kind("tag of four billion values.tiff", lambda: tiff([[*_directory(2, 2, 200, 4), (700, 1, 2**32 - 1, 8)]], [-1], bytes(400)), "indexed failed", _PICTURE),
    Kind("tags without end.tiff", lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(2000), "failed", _PICTURE),
    Kind("unknown compression.tiff", lambda: tiff([_directory(2, 2, 200, 4, 999)], [-1], bytes(100)), "failed", _PICTURE),
    # WebP
    Kind("as large as can be said.webp", lambda: _webp(_canvas(16384, 16384), (b"ANIM", bytes(6)), (b"ANMF", bytes(16) + saved("webp")[12:])), "failed", "pixels"),
    Kind("twenty thousand frames.webp", lambda: _animation(20_000), "indexed"),
    Kind("frames of nothing.webp", lambda: _webp(_canvas(50, 50), (b"ANIM", bytes(6)), *[(b"ANMF", bytes(16))] * 1000), "failed", _PICTURE),
    Kind("profile of 5 MB.webp", lambda: _webp(_canvas(120, 90, 0x20), (b"ICCP", bytes(5 * 2**20)), (saved("webp")[12:16], saved("webp")[20:])), "indexed"),
    Kind("a chunk longer than the file.webp", lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8L\xff\xff\xff\x7f/" + bytes(100), "failed", _PICTURE),
    # JPEG
    Kind("larger than its data.jpg", lambda: _resized_jpeg(20_000, 20_000), "indexed"),
    Kind("as large as can be said and progressive.jpg", lambda: _resized_jpeg(65500, 65500, progressive=True), "failed", "pixels"),
    Kind("no size.jpg", lambda: _resized_jpeg(0, 0), "failed", _PICTURE),
    Kind("thousands of scans.jpg", lambda: _many_scans(5000), "failed", "scans"),
    Kind("three hundred profiles.jpg", lambda: _metadata(300), "indexed"),
    Kind("metadata larger than the file.jpg", lambda: _exif(500), "indexed"),
    Kind("comments alone.jpg", lambda: b"\xff\xd8" + _marker(0xFE, bytes(60_000)) * 200 + b"\xff\xd9", "failed", _PICTURE),
    Kind("markers of fill.jpg", lambda: b"\xff\xd8" + b"\xff" * 20_000, "indexed failed", _PICTURE),
    Kind("no tables.jpg", lambda: saved("jpg").replace(b"\xff\xdb", b"\xff\xfe").replace(b"\xff\xc4", b"\xff\xfe"), "failed", _PICTURE),
    # BMP
    Kind("as large as can be said.bmp", lambda: _bmp(2**31 - 1, 2**31 - 1), "failed", "pixels"),
    Kind("less than no height.bmp", lambda: _bmp(10, -(2**31)), "failed", "pixels|picture"),
    Kind("no size.bmp", lambda: _bmp(0, 0), "failed", _PICTURE),
    Kind("runs without end.bmp", lambda: _bmp(9000, 9000, 8, 1, b"\xff\x01" * 1000, 256), "failed", _PICTURE),
    Kind("palette of two billion.bmp", lambda: _bmp(10, 10, 8, 0, bytes(2000), 2**31 - 1), "failed", _PICTURE),
    # Names that lie
    Kind("page.png", lambda: b"<!doctype html><html><p>bees " + b"and bees " * 50, "indexed"),
    Kind("picture.txt", lambda: saved("png"), "indexed"),
    Kind("picture and archive.jpg", lambda: saved("jpg") + b"PK\x03\x04" + bytes(500), "indexed"),
]  # fmt: skip
