"""A small PDF writer: lines of Helvetica, ruled lines and JPEG pictures, optionally encrypted.

It writes what ISO 32000-1 asks of a file of version 1.4 and nothing more; the same pages give the same bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field

#: A4 in points (1/72 inch).
PAGE_WIDTH, PAGE_HEIGHT = 595, 842

#: Widths of Helvetica's characters 32 to 126 in thousandths of the size, from Adobe's font metrics.
_WIDTHS = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778,
    722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278,
    278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip

#: Padding of passwords, ISO 32000-1, 7.6.3.3, algorithm 2.
_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")

#: Rights of whoever opens the file with the password: to print, and nothing else.
_PERMISSIONS = -3900


@dataclass
class Page:
    """What is drawn on one page, from the top: text by `text`, lines by `rule`, one JPEG by `jpeg`."""

    marks: list[bytes] = field(default_factory=list)
    picture: tuple[bytes, int, int] | None = None

    def text(self, x: float, y: float, line: str, size: float = 10.5, bold: bool = False) -> None:
        """One line with its left end at x and its baseline y points below the top."""
        shown = (
            line.encode("cp1252", "replace")
            .replace(b"\\", b"\\\\")
            .replace(b"(", b"\\(")
            .replace(b")", b"\\)")
        )
        font = "F2" if bold else "F1"
        self.marks.append(
            f"BT /{font} {size} Tf {x:.1f} {PAGE_HEIGHT - y:.1f} Td (".encode() + shown + b") Tj ET"
        )

    def rule(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A line half a point wide, in points from the top left."""
        self.marks.append(
            f"0.5 w {x0:.1f} {PAGE_HEIGHT - y0:.1f} m {x1:.1f} {PAGE_HEIGHT - y1:.1f} l S".encode()
        )

    def jpeg(self, content: bytes, width: int, height: int) -> None:
        """A grey JPEG of that many pixels over the whole page."""
        self.picture = (content, width, height)
        self.marks.append(f"q {PAGE_WIDTH} 0 0 {PAGE_HEIGHT} 0 0 cm /P Do Q".encode())


def text_width(text: str, size: float) -> float:
    """Points that the text takes in Helvetica of that size; beyond ASCII, as an average letter does."""
    return sum(_WIDTHS[ord(c) - 32] if 32 <= ord(c) < 127 else 556 for c in text) * size / 1000


def wrap(text: str, width: float, size: float = 10.5) -> list[str]:
    """The text in lines of at most `width` points."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def document(pages: list[Page], title: str, password: str = "") -> bytes:
    """The file. With a password it can't be opened without it (RC4, 128 bits: revision 3)."""
    key, encryption = _encryption(password, title) if password else (b"", b"")
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    for font in ("Helvetica", "Helvetica-Bold"):
        objects.append(
            f"<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>".encode()
        )
    kids = []
    for page in pages:
        resources = "/Font << /F1 3 0 R /F2 4 0 R >>"
        if page.picture is not None:
            content, width, height = page.picture
            about = (
                f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceGray"
                " /BitsPerComponent 8 /Filter /DCTDecode"
            )
            objects.append(_stream(about, content, len(objects) + 1, key))
            resources += f" /XObject << /P {len(objects)} 0 R >>"
        body = zlib.compress(b"\n".join(page.marks), 9)
        objects.append(_stream("/Filter /FlateDecode", body, len(objects) + 1, key))
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {PAGE_WIDTH} {PAGE_HEIGHT}]"
            f" /Resources << {resources} >> /Contents {len(objects)} 0 R >>".encode()
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    name = title.encode("cp1252", "replace")
    number = len(objects) + 1
    objects.append(b"<< /Title <" + _cipher(key, number, name).hex().encode() + b"> >>")
    trailer = f"/Size {len(objects) + 1 + bool(key)} /Root 1 0 R /Info {number} 0 R".encode()
    if key:
        objects.append(encryption)
        trailer += f" /Encrypt {len(objects)} 0 R".encode()
    identity = hashlib.md5(title.encode()).hexdigest().encode()
    trailer += b" /ID [<" + identity + b"> <" + identity + b">]"
    return _file(objects, trailer)


def _file(objects: list[bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    table = [b"0000000000 65535 f \n"]
    for number, content in enumerate(objects, 1):
        table.append(b"%010d 00000 n \n" % len(out))
        out += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n" % len(table) + b"".join(table)
    out += b"trailer\n<< " + trailer + b" >>\nstartxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def _stream(about: str, content: bytes, number: int, key: bytes) -> bytes:
    content = _cipher(key, number, content)
    return f"<< {about} /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def _encryption(password: str, title: str) -> tuple[bytes, bytes]:
    """The file's key and its encryption dictionary: ISO 32000-1, 7.6.3, algorithms 2, 3 and 5, revision 3."""
    padded = (password.encode("cp1252") + _PADDING)[:32]
    identity = hashlib.md5(title.encode()).digest()
    owner_key = padded
    for _ in range(51):
        owner_key = hashlib.md5(owner_key).digest()
    owner = _rounds(owner_key, padded)
    key = hashlib.md5(padded + owner + _PERMISSIONS.to_bytes(4, "little", signed=True) + identity).digest()
    for _ in range(50):
        key = hashlib.md5(key).digest()
    user = _rounds(key, hashlib.md5(_PADDING + identity).digest()) + bytes(16)
    hashes = f"/O <{owner.hex()}> /U <{user.hex()}>"
    dictionary = f"<< /Filter /Standard /V 2 /R 3 /Length 128 /P {_PERMISSIONS} {hashes} >>"
    return key, dictionary.encode()


def _rounds(key: bytes, content: bytes) -> bytes:
    for turn in range(20):
        content = _rc4(bytes(byte ^ turn for byte in key), content)
    return content


def _cipher(key: bytes, number: int, content: bytes) -> bytes:
    """Content of object `number`, encrypted with its own key (algorithm 1) where the file has one."""
    if not key:
        return content
    return _rc4(hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest(), content)


def _rc4(key: bytes, content: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out = bytearray()
    i = j = 0
    for byte in content:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
