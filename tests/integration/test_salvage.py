"""What can be had of a damaged file is had, and what can't is told, page by page."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from tests.integration.runs import Corpus
from tests.parsers.pdf_writer import Page, pdf

PAGES, BROKEN = 400, 123


def test_a_document_with_one_broken_page_gives_all_the_others(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    pages = [Page().text(72, 700, f"This is page {number} of the book.") for number in range(1, PAGES + 1)]
    whole = pdf(pages)
    broken = whole.replace(b"<< /Type /Page /Parent 2 0 R", b"[  /Type /Page /Parent 2 0 R", BROKEN).replace(
        b"[  /Type", b"<< /Type", BROKEN - 1
    )
    assert len(broken) == len(whole), "the table of references would not fit any more"
    (corpus.files / "book.pdf").write_bytes(broken)
    result = corpus.run()
    assert result.code == 3, result.err
    assert result.files == {"discovered": 1, "partial": 1}
    (failure,) = result.lines("failures.jsonl")
    assert (failure["page"], failure["stage"], failure["error_type"]) == (BROKEN, "parse", "damaged-page")
    records = corpus.records().values()
    assert {record["page"] for record in records} == {*range(1, PAGES + 1)} - {BROKEN}
    assert all(f"page {record['page']} of" in str(record["text"]) for record in records)
    assert result.summary["chunks"]["indexed"] == PAGES - 1
    (corpus.files / "book.pdf").write_bytes(whole)
    mended = corpus.run()
    assert (mended.code, mended.files) == (0, {"discovered": 1, "indexed": 1})
    assert len(corpus.records()) == PAGES


def test_a_picture_that_ends_early_is_used_where_that_is_asked_for(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    whole = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((400, 400)).save(whole, "JPEG")
    (corpus.files / "picture.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 3])
    result = corpus.run()
    assert result.code == 3, result.err
    assert "--tolerate-truncated" in str(result.lines("failures.jsonl")[0]["message"])
    tolerant = corpus.run("--tolerate-truncated")
    assert (tolerant.code, tolerant.files) == (0, {"discovered": 1, "indexed": 1})
    assert tolerant.summary["salvaged"] == {"replaced_characters": 0, "truncated_images": 1}
    assert "damaged: 1 truncated pictures; indexed all the same" in tolerant.err


def test_bytes_that_are_no_text_are_replaced_and_counted(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. ".encode() * 30
    (corpus.files / "broken.txt").write_bytes(text + b"\xff\xfe" + text + b"\xc3")
    result = corpus.run()
    assert result.code == 0, result.err
    assert result.summary["salvaged"] == {"replaced_characters": 3, "truncated_images": 0}
    assert "3 characters that could not be decoded" in result.err


def test_what_a_library_prints_of_a_file_stands_in_the_log(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    whole = io.BytesIO()
    Image.radial_gradient("L").resize((400, 400)).save(whole, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(whole.getvalue())
    data[200:400] = b"\0" * 200
    (corpus.files / "damaged.tiff").write_bytes(data)
    result = corpus.run()
    assert result.code == 3, result.err
    assert "ZIPDecode" in (corpus.run_dir / "run.log").read_text()
    assert "ZIPDecode" not in result.err
