"""What can be had of a damaged file is had, and what can't is told, page by page."""

from __future__ import annotations

from pathlib import Path

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
