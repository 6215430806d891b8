"""The text that comes out of `examples/corpus` is what it always was: a change here changes record ids.

`corpus_texts.json` has the SHA-256 (16 digits) of every file's texts with their places. Where a fix is meant
to change some: `python -m tests.parsers.test_corpus` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from engine.errors import ParseError, SkipFileError
from engine.records import TextSection
from tests.parsers.parsing import detect, parse

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"
EXPECTED = Path(__file__).parent / "corpus_texts.json"


def _digests() -> dict[str, str]:
    digests = {}
    for path in sorted(CORPUS.rglob("*")):
        try:
            media_type = detect(path) if path.is_file() else ""
        except SkipFileError:
            continue
        if not media_type or media_type.startswith("image/"):
            continue
        digest = hashlib.sha256(media_type.encode())
        try:
            for section in parse(media_type, path):
                assert isinstance(section, TextSection)
                digest.update(repr((section.unit, section.page, section.start, section.text)).encode())
        except (ParseError, SkipFileError) as error:
            digest.update(repr(error).encode())
        name = os.fsencode(path.relative_to(CORPUS)).decode("ascii", "backslashreplace")
        digests[name] = digest.hexdigest()[:16]
    return digests


def test_every_file_gives_the_text_that_it_gave_before() -> None:
    assert _digests() == json.loads(EXPECTED.read_text())


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps(_digests(), indent=1, sort_keys=True) + "\n")
