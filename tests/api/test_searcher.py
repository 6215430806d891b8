from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import adapters
import engine
from adapters.base import NO_FILTERS, Filters
from adapters.memory import MemoryAdapter
from engine.api import embedding, searcher
from engine.errors import ModelNotFoundError, UsageError
from engine.models import load
from engine.records import Hit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty texts and two pictures."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(20):
        (folder / f"note {number}.txt").write_text(f"Note {number}.")
    for name in ("red", "blue"):
        Image.new("RGB", (40, 30), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def index(url: str, model: engine.EmbeddingModel, folder: Path) -> str:
    """The folder's index."""
    engine.embed_directory(folder, model, adapter=url)
    return url


def test_hits_of_both_kinds_or_of_one(index: str, folder: Path) -> None:
    with engine.Searcher(index) as found:
        hits = found.search("Note 7.", k=3)
        assert (len(hits.text), len(hits.image), len(hits)) == (3, 2, 5)
        assert hits.text[0].source == str(folder / "note 7.txt")
        assert hits.text[0].score == pytest.approx(1)
        assert found.search("Note 7.", kind="text").image == ()
        assert {hit.kind for hit in found.search("Note 7.", kind="image")} == {"image"}
        assert repr(found) == f"Searcher({index!r})"


def test_filters_narrow_a_search(index: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    found = engine.Searcher(index)
    hits = found.search("Note 7.", source_prefix="corpus/note 1")
    assert len(hits.text) == 10 and not hits.image
    assert all(hit.source.startswith(str(folder / "note 1")) for hit in hits)
    assert not found.search("Note 7.", media_type="image/png").text


def test_a_hybrid_search_merges_words_and_nearness(index: str, folder: Path) -> None:
    asked: list[tuple[str, int, Filters]] = []

    class Wordy(MemoryAdapter):
        capabilities = replace(MemoryAdapter.capabilities, words=True)

        def search_words(self, words: str, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
            asked.append((words, k, filters))
            return [hit for hit in self.search("text", near, 20) if hit.text == "Note 3."]

    near = engine.embed_query("Note 3.", "stand-in:16")
    found = engine.Searcher(Wordy(index.removeprefix("memory://")))
    hits = found.search("Note 7.", k=2, hybrid=True, media_type="text/plain")
    # The third note is in both lists, the seventh is the first of one of them.
    assert [Path(hit.source).name for hit in hits.text] == ["note 3.txt", "note 7.txt"]
    assert asked == [("Note 7.", searcher.FUSED_RANKS, Filters(media_type="text/plain"))]
    assert not found.search("red", kind="image", hybrid=True).text and len(asked) == 1


def test_no_model_is_loaded_where_nothing_passes(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "load_text", None)
    monkeypatch.setattr(searcher, "load_caption", None)
    assert not engine.Searcher(index).search("Note 7.", media_type="application/pdf")


def test_models_are_loaded_once_for_all_threads(
    index: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []

    def counted(name: str, load: Any) -> Any:
        def counting(*options: Any, **more: Any) -> Any:
            loads.append(name)
            return load(*options, **more)

        return counting

    monkeypatch.setattr(searcher, "load_text", counted("load_text", load.load_text))
    monkeypatch.setattr(searcher, "load_caption", counted("load_caption", load.load_caption))
    found = engine.Searcher(index)
    together = threading.Barrier(8)

    def ask(number: int) -> bool:
        if number < 8:
            together.wait(60)
        hits = found.search(f"Note {number % 20}.", k=1)
        return hits.text[0].source == str(folder / f"note {number % 20}.txt") and len(hits.image) == 1

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(200)))
    assert sorted(loads) == ["load_caption", "load_text"]


def test_a_model_that_is_loaded_already_is_shared(
    index: str, model: engine.EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "load_text", None)
    monkeypatch.setattr(searcher, "load_caption", None)
    assert len(engine.Searcher(index, model).search("Note 7.", k=1)) == 2


def test_an_image_model_that_is_not_given_is_that_of_the_index(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher, "load_text", None)
    text_alone = engine.EmbeddingModel.from_pretrained("stand-in:16")
    assert len(engine.Searcher(index, text_alone).search("Note 7.", k=1)) == 2
    assert len(engine.Searcher(index, "stand-in:16").search("Note 7.", k=1)) == 2


def test_a_model_that_the_index_was_not_made_with_is_refused(index: str) -> None:
    found = engine.Searcher(index, "stand-in:17")
    with pytest.raises(UsageError, match=r"stand-in:16 \(16 dim.*stand-in:17 \(17 dim"):
        found.search("Note 7.")
    with pytest.raises(ModelNotFoundError):
        engine.Searcher(index, "no such model")
    with pytest.raises(UsageError, match="model: is of type int"):
        engine.Searcher(index, 3)  # type: ignore[arg-type]


def test_what_is_written_later_is_found(index: str, folder: Path, model: engine.EmbeddingModel) -> None:
    found = engine.Searcher(index)
    assert found.search("Rain.", k=1).text[0].score < 0.99
    (folder / "rain.txt").write_text("Rain.")
    engine.embed_directory(folder, model, adapter=index)
    assert found.search("Rain.", k=1).text[0].source == str(folder / "rain.txt")


def test_an_index_that_is_replaced_is_searched_by_its_new_model(index: str, folder: Path) -> None:
    found = engine.Searcher(index)
    assert found.search("Note 7.")
    adapters.connect(index).drop()
    with pytest.raises(UsageError, match="no index there"):
        found.search("Note 7.")
    engine.embed_directory(folder, engine.EmbeddingModel("stand-in:32"), ["txt"], adapter=index)
    hits = found.search("Note 7.")
    assert hits.text[0].score == pytest.approx(1) and not hits.image


def test_an_adapter_of_the_caller_is_not_closed(
    index: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapters.connect(index)
    monkeypatch.setattr(adapter, "close", None)
    with engine.Searcher(adapter) as found:
        assert found.search("Note 7.")


def test_a_lancedb_is_searched_by_many_threads(
    tmp_path: Path, folder: Path, model: engine.EmbeddingModel
) -> None:
    url = f"lancedb://{tmp_path}/db"
    engine.embed_directory(folder, model, adapter=url)
    with engine.Searcher(url, model) as found, ThreadPoolExecutor(4) as threads:
        hits = list(threads.map(lambda number: found.search(f"Note {number}.", k=1), range(20)))
        assert found.contents().media_types == {"text/plain": 20, "image/png": 2}
    assert [each.text[0].text for each in hits] == [f"Note {number}." for number in range(20)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"query": " "}, "the query is empty"),
        ({"query": ["a", "b"]}, "give one text"),
        ({"query": "a", "k": "many"}, r"^k=many: give a whole number"),
        ({"query": "a", "k": 0}, "^k=0: "),
        ({"query": "a", "kind": "sound"}, "kind='sound': give 'text' or 'image'"),
        ({"query": "a", "source_prefix": 7}, "^source_prefix=7: give a text"),
        ({"query": "a", "media_type": b"x"}, "^media_type=b'x': give a text"),
        ({"query": "a", "hybrid": True}, "^hybrid=: .*can't search by words"),
    ],
)
def test_errors_name_arguments(index: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        engine.Searcher(index).search(**options)


def test_what_can_not_be_opened_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"^adapter=oracle://x: unknown"):
        engine.Searcher("oracle://x")
    with pytest.raises(UsageError, match=r"^adapter=7: give the URL"):
        engine.Searcher(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^dtype=int8 needs backend="):
        engine.Searcher("memory://x", dtype="int8")


def test_a_name_in_a_loop_is_loaded_once() -> None:
    assert embedding.the_model("stand-in:16") is embedding.the_model("stand-in:16")
