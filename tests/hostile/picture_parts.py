"""What hostile pictures are made of."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

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


def png(
    width: int, height: int, *more: bytes, data: bytes | None = None, depth: int = 8, colour: int = 2
) -> bytes:
    """A PNG of any size, its data black rows by default."""
    if data is None:
        data = (
            zlib.compress(bytes((3 * width + 1) * height))
            if width * height < 10**6
            else zlib.compress(bytes(1000))
        )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(more)
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


@cache
def bomb(mebibytes: int) -> bytes:
    """zlib data that inflates to zeros."""
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(bytes(2**20)) for _ in range(mebibytes)), deflate.flush()])


def many_texts() -> bytes:
    texts = PngInfo()
    for i in range(3000):
        texts.add_text(f"key {i}", "bees " * 200)
    return saved("png", pnginfo=texts)


# TIFF


def tiff(
    directories: list[list[tuple[int, int, int, int]]], following: list[int], body: bytes = b""
) -> bytes:
    """Little-endian TIFF: directories of (tag, type, count, value) from byte 8 on, and what follows them.

    `following` says which is next to each (-1: none).
    """
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


def directory(
    width: int, height: int, strip: int, size: int, compression: int = 1
) -> list[tuple[int, int, int, int]]:
    return [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
        (273, 4, 1, strip), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, size),
    ]  # fmt: skip


DIRECTORY_BYTES = 2 + 12 * 9 + 4


def frames(count: int, loop: bool = False) -> bytes:
    """Frames of 2 x 2 pixels that share one strip."""
    at = 8 + count * DIRECTORY_BYTES
    following = [*range(1, count), 0 if loop else -1]
    return tiff([directory(2, 2, at, 4)] * count, following, bytes([0, 80, 160, 240]))


def one_bad_frame() -> bytes:
    frames = [photo(40 + i, 30) for i in range(5)]
    data = bytearray(
        saved("tiff", frames[0], save_all=True, append_images=frames[1:], compression="tiff_deflate")
    )
    second = data.index(zlib.compress(b"", 6)[:2], len(data) // 3)
    data[second : second + 200] = bytes(200)
    return bytes(data)


# GIF


def gif(width: int, height: int, blocks: bytes) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + blocks + b";"
    )


GIF_FRAME = b"," + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02\x03\x44\x84\x05\x00"


# WebP


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def canvas(width: int, height: int, flags: int = 0x02) -> tuple[bytes, bytes]:
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(
        3, "little"
    )


def animation(frames: int) -> bytes:
    image = webp_data(Image.new("RGB", (2, 2), "red"))
    frame = bytes(6) + (1).to_bytes(3, "little") * 2 + (10).to_bytes(3, "little") + b"\0" + image
    return webp(canvas(2, 2), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * frames)


def webp_data(image: Image.Image) -> bytes:
    return saved("webp", image, lossless=True)[12:]


# JPEG


def marker(code: int, data: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def resized_jpeg(width: int, height: int, **options: Any) -> bytes:
    """A small JPEG whose header claims another size."""
    data = bytearray(saved("jpg", **options))
    at = data.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last refinement scan comes again and again."""
    data = resized_jpeg(6000, 6000, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def metadata(count: int) -> bytes:
    data = saved("jpg")
    return (
        data[:2]
        + b"".join(marker(0xE2, b"ICC_PROFILE\0\x01\x01" + bytes(65_000)) for _ in range(count))
        + data[2:]
    )


def exif(entries: int) -> bytes:
    directory = struct.pack("<H", entries) + struct.pack("<HHII", 0x9286, 7, 0x7FFFFFFF, 8) * entries
    return saved("jpg")[:2] + marker(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + directory) + saved("jpg")[2:]


# BMP


def bmp(
    width: int, height: int, depth: int = 24, compression: int = 0, body: bytes = b"", colours: int = 0
) -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(body), 2835, 2835, colours, 0
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54) + head + body
