import io
import random

import pytest

from engine.parsers.encoding import SAMPLE_BYTES, encoding_of, find_encoding, looks_like_text

LEGACY = [
    ("Größe", "latin-1"),
    ("café", "cp1252"),
    ("L'été dernier, nous étions à la plage où les élèves jouaient. Ça va très bien.\n" * 5, "latin-1"),
    ("Preis: 20 € – „billig“ und gut für alle.\n" * 2, "cp1252"),
    ("# Autor: José\nimport os\nprint('hello')\n" * 50, "latin-1"),
    ("Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi.\n" * 5, "cp1250"),
    ("Все люди рождаются свободными и равными в своем достоинстве.\n" * 5, "cp1251"),
    ("Все люди рождаются свободными и равными в своем достоинстве.\n" * 5, "koi8_r"),
    (
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。\n" * 5,
        "shift_jis",
    ),
    ("人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。\n" * 5, "gb18030"),
    ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.\n" * 5, "cp949"),
]
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize(("text", "encoding"), LEGACY)
def test_a_text_in_a_legacy_encoding_is_read_as_it_was_written(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    assert looks_like_text(data)
    assert data.decode(encoding_of(data, whole=True)) == text


@pytest.mark.parametrize("encoding", UNICODE)
@pytest.mark.parametrize("text", ["a", "Hello Größe, a line.\n", "Привет, мир. Ещё строка\n"])
def test_a_text_in_unicode_is_told_with_and_without_a_mark(text: str, encoding: str) -> None:
    data = text.encode(encoding)
    assert looks_like_text(data)
    assert data.decode(encoding_of(data, whole=True)).lstrip("\ufeff") == text


def test_utf8_with_one_broken_byte_is_still_utf8() -> None:
    assert encoding_of("naïve café, déjà vu. ".encode() * 20 + b"\xff", whole=True) == "utf-8"


def test_a_sample_that_ends_inside_a_character_is_still_utf8() -> None:
    sample = b"Gr" + "ö".encode()[:1]
    assert encoding_of(sample, whole=False) == "utf-8"


def test_ascii_with_a_stray_nul_is_not_taken_for_utf16() -> None:
    assert encoding_of(b"one\0two and three more words", whole=True) == "utf-8"


def test_the_first_byte_beyond_ascii_decides_however_late_it_comes() -> None:
    data = b"plain ascii\n" * (3 * SAMPLE_BYTES // 12) + "Größe und Länge\n".encode("latin-1")
    assert find_encoding(io.BytesIO(data)) == ("cp1252", 0)


def test_noise_is_not_text() -> None:
    noise = random.Random(3)
    assert not any(looks_like_text(noise.randbytes(size)) for size in (200, 1000, 8192) for _ in range(50))


def test_a_coloured_log_is_text() -> None:
    assert looks_like_text(b"\x1b[31mERROR\x1b[0m something broke\n")
