"""Pictures of any size, written strip by strip, and small ones for a mixture."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

#: Width to height.
ASPECT = 4 / 3

#: Pixels of a JPEG's strip of one row of its blocks, where colour has half the resolution; rows of a PNG
#: that are compressed at once. Strips of several contents take turns.
BLOCK, PNG_ROWS, CONTENTS = 16, 64, 8

#: Markers of a JPEG (ITU T.81, table B.1): restart interval, frame header, scan header, first restart, end.
DRI, SOF0, SOS, RST0, EOI = b"\xff\xdd", 0xC0, 0xDA, 0xD0, b"\xff\xd9"

#: Side in pixels of a TIFF's frame.
FRAME_SIDE = 400


def _strip(width: int, height: int, seed: int) -> Image.Image:
    """A gradient with noise, as a photograph compresses."""
    coarse = (width // 8, height // 8)
    noise = Image.frombytes("RGB", coarse, random.Random(seed).randbytes(3 * coarse[0] * coarse[1]))
    return noise.resize((width, height), Image.Resampling.BILINEAR)


def _sides(megapixels: float, multiple: int) -> tuple[int, int]:
    width = int((megapixels * 1e6 * ASPECT) ** 0.5) // multiple * multiple
    return width, int(megapixels * 1e6 / width) // multiple * multiple


def write_jpeg(path: Path, megapixels: float) -> None:
    """A baseline JPEG of so many million pixels, each side at most 65,500.

    Strips of one row of blocks are encoded alone and joined by restart markers, at which a decoder begins
    anew anyhow; the header is the first strip's with the whole height and a restart interval.
    """
    width, height = _sides(megapixels, BLOCK)
    strips = [_jpeg_parts(_strip(width, BLOCK, seed), height) for seed in range(CONTENTS)]
    count = height // BLOCK
    with open(path, "wb") as file:
        file.write(strips[0][0])
        for number in range(count):
            file.write(strips[number % CONTENTS][1])
            if number < count - 1:
                file.write(bytes([0xFF, RST0 + number % 8]))
        file.write(EOI)


def _jpeg_parts(strip: Image.Image, height: int) -> tuple[bytes, bytes]:
    """The header for a picture of that height, and the strip's coded blocks."""
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=80, subsampling="4:2:0")
    data = bytearray(out.getvalue())
    at = 2
    while data[at + 1] != SOS:
        if data[at + 1] == SOF0:
            data[at + 5 : at + 7] = struct.pack(">H", height)
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    body = at + 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    restart = DRI + struct.pack(">HH", 4, strip.width // BLOCK)
    return bytes(data[:at] + restart + data[at:body]), bytes(data[body : -len(EOI)])


def write_png(path: Path, megapixels: float) -> None:
    """A PNG of so many million RGB pixels, in rows without a filter."""
    width, height = _sides(megapixels, PNG_ROWS)
    contents = [_strip(width, PNG_ROWS, seed).tobytes() for seed in range(CONTENTS)]
    packer = zlib.compressobj(1)
    with open(path, "wb") as file:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        file.write(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header))
        for number in range(height // PNG_ROWS):
            pixels = contents[number % CONTENTS]
            rows = b"".join(b"\0" + pixels[i : i + 3 * width] for i in range(0, len(pixels), 3 * width))
            if packed := packer.compress(rows):
                file.write(_chunk(b"IDAT", packed))
        file.write(_chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_tiff(path: Path, frames: float) -> None:
    """A TIFF of so many different frames."""

    def rest() -> Iterator[Image.Image]:
        for number in range(1, int(frames)):
            yield _strip(FRAME_SIDE, FRAME_SIDE, number)

    first = _strip(FRAME_SIDE, FRAME_SIDE, 0)
    first.save(path, "TIFF", save_all=True, append_images=rest(), compression="tiff_deflate")


def write_picture(path: Path, source: random.Random) -> None:
    """A small picture of circles, as its name ends."""
    width, height = source.randint(300, 900), source.randint(300, 900)
    image = _strip(width, height, source.randrange(10**9))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, size = source.randrange(width), source.randrange(height), source.randint(10, 200)
        draw.ellipse((x, y, x + size, y + size), fill=tuple(source.choices(range(256), k=3)))
    image.save(path)
