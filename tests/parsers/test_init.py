import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from engine.errors import SkipFileError
from engine.models.spec import ImageSpec
from engine.parsers import kinds_of
from engine.records import PictureSection, TextSection
from tests.parsers.parsing import detect, parse
from tests.parsers.pdf_writer import Page, pdf

SPEC = ImageSpec("model", None, "digest", 8, True, (8, 8), (0, 0, 0), (1, 1, 1), "shortest", "bicubic")


def test_each_type_goes_to_its_parser(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain words")
    (tmp_path / "b.html").write_text("<p>marked words</p>")
    (tmp_path / "c.pdf").write_bytes(pdf([Page().text(72, 700, "printed words")]))
    Image.new("RGB", (20, 20), "red").save(tmp_path / "d.png")
    found = {}
    for path in tmp_path.iterdir():
        media_type = detect(path)
        (section,) = parse(media_type, path, image_spec=lambda: SPEC)
        found[path.name] = section.text if isinstance(section, TextSection) else type(section)
        assert kinds_of(media_type) == {"image" if path.suffix == ".png" else "text"}
    assert found == {
        "a.txt": "plain words",
        "b.html": "marked words",
        "c.pdf": "printed words",
        "d.png": PictureSection,
    }


def test_a_picture_without_an_image_model_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(SkipFileError) as error:
        list(parse("image/png", tmp_path / "a.png"))
    assert error.value.rule == "no-images"


def test_nothing_is_opened_before_the_first_section_is_asked_for() -> None:
    sections = parse("text/plain", "/no/such/file")
    with pytest.raises(FileNotFoundError):
        next(sections)


def test_reading_text_loads_no_library_for_pictures_html_or_pdf(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Größe\n\nwords")
    program = (
        "import sys\n"
        "from engine.parsers import LocalFile, ParseOptions, detect, parse\n"
        "file = LocalFile(sys.argv[1])\n"
        "print(len(list(parse(file, detect(file, file.path), ParseOptions()))))\n"
        "heavy = {'PIL', 'lxml', 'trafilatura', 'pypdfium2', 'pdfplumber', 'torch', 'charset_normalizer'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.md")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["1", "[]"]
