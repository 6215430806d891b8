"""The example corpus holds what `examples/README.md` promises, seen from the files alone."""

import codecs
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image, UnidentifiedImageError

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"
PICTURE_SUFFIXES = {".jpg", ".png", ".webp", ".gif", ".tiff", ".bmp"}

#: Upper bound of the corpus in bytes, as it is part of every clone.
LARGEST_CORPUS = 4_000_000

#: EXIF's tag for how the camera was held.
ORIENTATION = 0x0112


def files() -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(CORPUS) for name in names]


def pictures() -> list[Path]:
    return sorted(path for path in (CORPUS / "pictures").rglob("*") if path.is_file())


def pdf_texts(path: Path) -> Iterator[str]:
    document = pypdfium2.PdfDocument(path)
    try:
        for page in document:
            yield page.get_textpage().get_text_bounded()
    finally:
        document.close()


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in files()) < LARGEST_CORPUS


def test_there_are_sixty_documents_of_every_type_and_sixty_pictures() -> None:
    documents = [path for path in files() if path.relative_to(CORPUS).parts[0] not in ("pictures", "odd")]
    suffixes = Counter(path.suffix for path in documents)
    assert len(documents) >= 60
    assert set(suffixes) >= {".txt", ".md", ".html", ".pdf", ".py", ".c", ".js", ".json", ".csv"}
    assert suffixes[".txt"] >= 10
    assert suffixes[".md"] >= 10
    assert suffixes[".html"] >= 5
    assert suffixes[".pdf"] >= 5
    assert len(pictures()) >= 60


def test_every_picture_opens_and_is_of_the_format_that_its_suffix_says() -> None:
    formats: Counter[str] = Counter()
    for path in pictures():
        with Image.open(path) as picture:
            picture.load()
            assert picture.format is not None
            assert path.suffix[1:] == {"jpeg": "jpg"}.get(picture.format.lower(), picture.format.lower())
            formats[picture.format] += 1
    assert set(formats) == {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"}


def test_the_pictures_have_every_colour_mode_and_some_are_stored_turned() -> None:
    modes: set[str] = set()
    turned: set[int] = set()
    frames = 0
    for path in pictures():
        with Image.open(path) as picture:
            modes.add(picture.mode)
            turned.add(picture.getexif().get(ORIENTATION, 1))
            frames = max(frames, getattr(picture, "n_frames", 1))
    assert modes >= {"RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16"}
    assert turned >= {3, 5, 6, 8}
    assert frames == 2


def test_the_handbook_has_forty_different_pages_full_of_text() -> None:
    pages = list(pdf_texts(CORPUS / "garden" / "handbook of 40 pages.pdf"))
    assert len(set(pages)) == 40
    assert min(map(len, pages)) > 700


def test_the_seed_order_has_a_ruled_table_on_each_page() -> None:
    pdfplumber = pytest.importorskip("pdfplumber")
    with pdfplumber.open(CORPUS / "garden" / "seed order.pdf") as document:
        tables = [page.extract_tables() for page in document.pages]
    assert [len(found) for found in tables] == [1, 1]
    assert tables[0][0][1] == ["Leek seed", "1", "1.20", "1.20"]


def test_the_journal_is_set_in_two_columns() -> None:
    document = pypdfium2.PdfDocument(CORPUS / "essays" / "journal in two columns.pdf")
    text = document[0].get_textpage()
    lefts = Counter(round(text.get_rect(index)[0]) for index in range(text.count_rects()))
    document.close()
    (first, many), (second, few) = lefts.most_common(2)
    assert abs(first - second) > 150
    assert min(many, few) > 20


def test_the_encrypted_pdf_opens_with_its_password_only() -> None:
    path = CORPUS / "odd" / "encrypted.pdf"
    with pytest.raises(pypdfium2.PdfiumError, match="password"):
        pypdfium2.PdfDocument(path)
    document = pypdfium2.PdfDocument(path, password="marzipan")
    assert "without the word" in document[0].get_textpage().get_text_bounded()
    document.close()


def test_the_scanned_pdf_has_a_picture_and_no_text() -> None:
    assert list(pdf_texts(CORPUS / "odd" / "scanned.pdf")) == [""]
    document = pypdfium2.PdfDocument(CORPUS / "odd" / "scanned.pdf")
    assert [item.type for item in document[0].get_objects()] == [pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]
    document.close()


def test_the_damaged_and_mislabelled_files_are_what_the_readme_says() -> None:
    odd = CORPUS / "odd"
    assert (odd / "empty.txt").stat().st_size == 0
    assert (odd / ".hidden.txt").is_file()
    assert not (odd / "text with a wrong suffix.pdf").read_bytes().startswith(b"%PDF")
    assert (odd / "png with a wrong suffix.jpg").read_bytes().startswith(b"\x89PNG")
    with Image.open(odd / "truncated.jpg") as picture, pytest.raises(OSError, match="truncated"):
        picture.load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(odd / "unknown.bin")


def test_some_names_have_spaces_or_emoji_and_some_are_not_utf8() -> None:
    names = [os.fsencode(path) for path in files()]
    assert any(b" " in name for name in names)
    assert any("🐝".encode() in name for name in names)
    undecodable = [name for name in names if not _is_utf8(name)]
    assert sorted(os.path.basename(name) for name in undecodable) == [b"caf\xe9 menu.txt", b"\xfcbung.png"]


def test_the_languages_come_in_the_encodings_that_the_readme_names() -> None:
    folder = CORPUS / "languages"
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert contents["huerto.md"].startswith(codecs.BOM_UTF8)
    assert all(contents[name].startswith(codecs.BOM_UTF16_LE) for name in ("νησί.txt", "снег.txt"))
    assert all(not _is_utf8(contents[name]) for name in ("wanderung.txt", "marché.txt"))
    assert "naß" in contents["wanderung.txt"].decode("latin-1")
    assert "豆腐" in contents["豆腐.md"].decode()


def test_the_web_pages_carry_what_a_reader_does_not_want() -> None:
    for path in CORPUS.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert all(part in text for part in ("<nav>", "<script>", "<style>", "<footer>", "<article>"))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
