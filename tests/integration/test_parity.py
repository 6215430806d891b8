"""The vectors in the database are those of the reference libraries, over the whole example corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.parity import image_parity, indexed, text_parity

CORPUS = Path(__file__).resolve().parents[2] / "examples" / "corpus"

#: sentence-transformers and open_clip warn of their own surroundings while they load.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """The records of the example corpus, made with the real MiniLM and the demonstration CLIP."""
    options = ("--exact-images", "--device", "cpu", "--dtype", "float32")
    return indexed(CORPUS, tmp_path_factory.mktemp("parity"), *options)


def test_text_vectors_are_those_of_sentence_transformers(exact: list[dict[str, object]]) -> None:
    parity = text_parity(exact)
    assert parity.count > 200
    assert parity.largest <= 1e-5


def test_exact_picture_vectors_are_those_of_open_clip(exact: list[dict[str, object]]) -> None:
    parity = image_parity(exact, CORPUS, "pictures")
    assert parity.count >= 55
    assert parity.largest <= 1e-5


def test_default_picture_vectors_are_close_to_those_of_open_clip(tmp_path: Path) -> None:
    records = indexed(CORPUS, tmp_path, "--include", "*.jpg", "--include", "*.jpeg", "--device", "cpu")
    parity = image_parity(records, CORPUS, "pictures")
    assert parity.count >= 5
    assert parity.largest <= 1e-3


def test_default_text_vectors_are_close_to_those_of_sentence_transformers(tmp_path: Path) -> None:
    # In whatever numbers this machine's calibration has found fastest.
    records = indexed(CORPUS, tmp_path, "--include", "*.md", "--device", "cpu")
    parity = text_parity(records)
    assert parity.count > 20
    assert parity.largest <= 1e-3
