from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.errors import ModelNotFoundError, UsageError
from engine.records import Vector

#: Short, long, empty, longer than the model's largest input, and in several scripts.
TEXTS = (
    "Bees dance.",
    "Twice a day the sea rises and falls with the pull of the moon. " * 3,
    "",
    "word " * 900,
    "東京タワー, naïve café, Ωμέγα",
    "def f(x):\n\treturn x ** 2  # 🐝",
    "Half of a pair: \ud83d.",
)


@pytest.fixture
def model() -> engine.EmbeddingModel:
    return engine.EmbeddingModel.from_pretrained("stand-in:16", "stand-in:8")


class TestTexts:
    @pytest.mark.parametrize("backend", ["auto", "torch", "onnx"])
    def test_they_equal_those_of_sentence_transformers(self, backend: str) -> None:
        from sentence_transformers import SentenceTransformer

        # torch's float16 and bfloat16, which auto may take, are only as near as 0.999.
        model = engine.EmbeddingModel.from_pretrained(device="cpu", dtype="float32", backend=backend)
        reference = SentenceTransformer(model.text.folder, device="cpu")
        texts = [text for text in TEXTS if text.isprintable() or "\t" in text]
        theirs = reference.encode(texts, normalize_embeddings=True)
        mine = engine.embed_texts(texts, model)
        assert mine.dtype == np.float32 and mine.shape == (len(texts), model.text.dimensions)
        assert (mine * theirs).sum(axis=1).min() >= 0.99999
        assert engine.embed_texts(list(TEXTS), model).shape[0] == len(TEXTS)

    def test_one_text_is_one_vector_and_several_are_rows(self, model: engine.EmbeddingModel) -> None:
        one = engine.embed_texts("Bees dance.", model)
        assert one.shape == (16,) and one.dtype == np.float32
        both = engine.embed_texts(("Bees dance.", ""), model)
        assert both.shape == (2, 16) and np.array_equal(both[0], one)
        assert engine.embed_texts([], model).shape == (0, 16)

    def test_a_record_of_the_same_text_has_the_same_vector(
        self, model: engine.EmbeddingModel, tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("Bees dance.")
        (record,) = engine.embed_file(tmp_path / "a.txt", model)
        assert np.array_equal(record.embedding, engine.embed_texts("Bees dance.", model))

    def test_threads_share_a_model(self, model: engine.EmbeddingModel) -> None:
        texts = [f"Note {number}." for number in range(64)]
        together = threading.Barrier(8)

        def embed(number: int) -> Vector:
            together.wait(60)
            return engine.embed_texts(texts[number::8], model)

        with ThreadPoolExecutor(8) as threads:
            parts = list(threads.map(embed, range(8)))
        for number, part in enumerate(parts):
            assert np.array_equal(part, engine.embed_texts(texts[number::8], model))

    @pytest.mark.parametrize(
        ("texts", "told"),
        [
            (["a", 3.5], r"^texts\[1\]: is of type float; give texts"),
            ([b"a"], r"^texts\[0\]: is of type bytes"),
            (b"a", "^texts: is of type bytes; give a text, or a list of texts"),
            (None, "^texts: is of type NoneType"),
        ],
    )
    def test_what_is_no_text_is_refused(self, model: engine.EmbeddingModel, texts: Any, told: str) -> None:
        with pytest.raises(UsageError, match=told):
            engine.embed_texts(texts, model)


class TestQueries:
    def test_one_query_is_one_vector_and_several_are_rows(self, model: engine.EmbeddingModel) -> None:
        one = engine.embed_query("bees", model)
        assert one.shape == (16,) and one.dtype == np.float32
        both = engine.embed_query(["bees", "tea"], model)
        assert both.shape == (2, 16)
        assert np.array_equal(both[0], one)
        assert engine.embed_query([], model).shape == (0, 16)

    def test_a_picture_is_asked_for_by_the_image_model(self, model: engine.EmbeddingModel) -> None:
        assert engine.embed_query("a red circle", model, kind="image").shape == (8,)

    @pytest.mark.parametrize("query", ["", " \n", ["bees", ""]])
    @pytest.mark.parametrize("kind", ["text", "image"])
    def test_an_empty_query_is_refused(
        self, model: engine.EmbeddingModel, query: str | Sequence[str], kind: Any
    ) -> None:
        with pytest.raises(UsageError, match=r"^query: is empty; give at least one word"):
            engine.embed_query(query, model, kind=kind)

    def test_a_kind_that_there_is_none_of_is_refused(self, model: engine.EmbeddingModel) -> None:
        with pytest.raises(UsageError, match=r"^kind='images': give 'text' or 'image'"):
            engine.embed_query("bees", model, kind="images")  # type: ignore[arg-type]


class TestModels:
    @pytest.mark.parametrize(
        "call",
        [
            lambda model, _: engine.embed_texts(["a"], model),
            lambda model, _: engine.embed_query("a", model),
            lambda model, folder: list(engine.embed_file(folder / "a.txt", model)),
            lambda model, folder: list(engine.embed_directory(folder, model)),
            lambda model, folder: list(engine.embed_image_directory(folder, model)),
        ],
    )
    def test_a_name_is_loaded_and_anything_else_refused_in_one_line(
        self,
        call: Callable[[Any, Path], object],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "a.txt").write_text("Bees.")
        call("stand-in:16", tmp_path)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelNotFoundError, match="nobody/knows-it"):
            call("nobody/knows-it", tmp_path)
        for wrong in (None, 3, object()):
            with pytest.raises(UsageError, match=r"^model: is .*; give an EmbeddingModel, or ") as raised:
                call(wrong, tmp_path)
            assert "\n" not in str(raised.value)

    def test_errors_name_arguments(self) -> None:
        with pytest.raises(UsageError, match=r"^dtype=int8 needs backend=onnx"):
            engine.EmbeddingModel.from_pretrained("stand-in:16", dtype="int8")
        with pytest.raises(UsageError, match=r"^backend=tf: unknown"):
            engine.EmbeddingModel.from_pretrained("stand-in:16", backend="tf")
