"""Each chunk gets the vector of its own input, by whichever way its model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pytest

from engine.errors import HandOverError
from engine.models.backends.base import BackendChoice, ImageEmbedder, TextEmbedder
from engine.models.backends.stand_in import StandInImage, StandInText
from engine.models.batching import TooLargeError
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.records import Pixels, TokenIds, Vector
from engine.stages.infer import NOT_FINITE, WINDOW_CHUNKS, InferStage
from engine.stages.repeats import Remembered
from engine.stages.segment import EmbeddedSegment, ParsedSegment
from tests.stages.made import make_picture, make_segment


class TextModel(TextEmbedder):
    """The vector of ids is their sum, that of a text its length; a model may give one too few."""

    choice = BackendChoice("test", "float32")
    spec: TextSpec = resolve_text("stand-in:8")

    def __init__(self, mode: Literal["ids", "text"] = "ids", missing: int = 0) -> None:
        self.effective_mode: Literal["ids", "text"] = mode
        self._missing = missing

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        return self._vectors([int(each.sum()) for each in ids], on_batch)

    def embed_texts(self, texts: Sequence[str], on_batch: Callable[[], None] | None = None) -> Vector:
        return self._vectors([-len(each) for each in texts], on_batch)

    def embed_query(self, text: str) -> Vector:
        raise NotImplementedError

    def _vectors(self, values: list[int], on_batch: Callable[[], None] | None) -> Vector:
        if on_batch:
            on_batch()
        kept = np.array(values, np.float32)[: len(values) - self._missing]
        return np.repeat(kept[:, None], 8, axis=1)


class ImageModel(ImageEmbedder):
    choice = BackendChoice("test", "float32")
    spec: ImageSpec = resolve_image("stand-in:8")

    def embed_pixels(
        self, pixels: Pixels | Sequence[Pixels], on_batch: Callable[[], None] | None = None
    ) -> Vector:
        values = np.array([picture.mean() for picture in pixels])
        return np.repeat(values.astype(np.float32)[:, None], 8, axis=1)

    def embed_query(self, text: str) -> Vector:
        raise NotImplementedError


def never() -> TextModel:
    raise AssertionError("a model was loaded that nobody needs")


def no_picture() -> ImageModel:
    raise AssertionError("a model was loaded that nobody needs")


def embedded(stage: InferStage, window: Sequence[ParsedSegment]) -> list[EmbeddedSegment]:
    return [made.segment for made in stage.embed(window)]


def firsts(vectors: Vector) -> list[float]:
    assert vectors.dtype == np.float32
    return [float(vector[0]) for vector in vectors]


def test_segments_of_a_window_share_batches_and_get_their_own_vectors_back() -> None:
    window = [make_segment(n, f"file {n}") for n in (2, 1, 3)]
    made = embedded(InferStage(TextModel, no_picture), window)
    assert [firsts(segment.vectors) for segment in made] == [[3, 4], [3], [3, 4, 5]]


def test_a_window_of_texts_and_pictures_keeps_them_apart() -> None:
    window: list[ParsedSegment] = [
        make_picture("ab"),
        make_segment(2, "text"),
        make_picture("abcd"),
    ]
    made = embedded(InferStage(TextModel, ImageModel), window)
    assert [firsts(segment.vectors) for segment in made] == [[2], [3, 4], [4]]
    assert [segment.kind for segment in made] == ["image", "text", "image"]


def test_a_model_that_takes_text_is_given_text() -> None:
    segment = make_segment(2, "long name")
    (made,) = embedded(InferStage(lambda: TextModel("text"), no_picture), [segment])
    assert firsts(made.vectors) == [-11, -11]


def test_segments_that_came_without_ids_are_embedded_by_their_text() -> None:
    window = [make_segment(1, "ids"), make_segment(1, "x", with_ids=False)]
    made = embedded(InferStage(TextModel, no_picture), window)
    assert [firsts(segment.vectors) for segment in made] == [[-5], [-3]]


def test_models_are_loaded_once_and_only_when_they_are_needed() -> None:
    loads: list[str] = []

    def load() -> TextModel:
        loads.append("text")
        return TextModel()

    stage = InferStage(load, no_picture)
    assert loads == []
    for _ in range(3):
        stage.embed([make_segment(1)])
    assert loads == ["text"]
    stage.embed([])
    pictures = InferStage(never, ImageModel)
    pictures.embed([make_picture()])


def test_the_caller_hears_of_each_batch() -> None:
    calls: list[int] = []
    stage = InferStage(TextModel, no_picture, lambda: calls.append(1))
    stage.embed([make_segment(1)])
    assert calls == [1]


@pytest.mark.parametrize("missing", [1, -1])
def test_a_model_that_gives_another_number_of_vectors_is_an_error_and_never_a_shift(missing: int) -> None:
    class Faulty(TextModel):
        def _vectors(self, values: list[int], on_batch: Callable[[], None] | None) -> Vector:
            return np.zeros((len(values) - missing, 8), np.float32)

    window = [make_segment(2, "a"), make_segment(1, "b")]
    with pytest.raises(HandOverError, match=f"{3 - missing} vectors for 3 chunks"):
        InferStage(Faulty, no_picture).embed(window)


def test_a_chunk_that_is_too_large_is_refused_at_its_place_and_keeps_a_row() -> None:
    class Narrow(TextModel):
        def _vectors(self, values: list[int], on_batch: Callable[[], None] | None) -> Vector:
            vectors = np.array(values, np.float32)[:, None].repeat(8, axis=1)
            vectors[[1, 2]] = np.nan
            raise TooLargeError(vectors, [1, 2])

    window = [make_segment(2, "a"), make_segment(3, "b")]
    made = embedded(InferStage(Narrow, no_picture), window)
    reason = "the model's input does not fit in the device's memory even alone"
    assert [segment.refused for segment in made] == [{1: reason}, {0: reason}]
    assert [len(firsts(segment.vectors)) for segment in made] == [2, 3]
    assert firsts(made[1].vectors)[1:] == [4, 5]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_at_its_place(bad: float) -> None:
    class Wild(ImageModel):
        def embed_pixels(
            self, pixels: Pixels | Sequence[Pixels], on_batch: Callable[[], None] | None = None
        ) -> Vector:
            vectors = super().embed_pixels(pixels)
            vectors[1, 5] = bad
            return vectors

    window = [make_picture(name) for name in ("a", "bc", "def")]
    made = embedded(InferStage(never, Wild), window)
    assert [segment.refused for segment in made] == [{}, {0: NOT_FINITE}, {}]


def test_equal_chunks_and_pictures_are_embedded_once_and_each_segment_is_told_how_many_were_not() -> None:
    first, other = make_segment(2, "a"), make_segment(3, "b")
    # As a licence at the end of two files, or a copy of a file.
    hashes, texts = [*other.hashes[:2], first.hashes[0]], [*other.texts[:2], first.texts[0]]
    ids = np.array([1, 0, 2, 1, 1, 2, 1, 0, 2], np.int32)
    second = make_segment(3, "b", hashes=hashes, texts=texts, token_ids=ids)
    window: list[ParsedSegment] = [first, second, *(make_picture(name) for name in ("pp", "q", "pp"))]
    apart = InferStage(TextModel, ImageModel, remembered=Remembered(0))
    once = InferStage(TextModel, ImageModel)
    for repeated in ([0, 1, 0, 0, 1], [2, 3, 1, 1, 1]):
        plain, deduplicated = apart.embed(window), once.embed(window)
        assert [each.repeated for each in plain] == [0] * 5
        assert [each.repeated for each in deduplicated] == repeated
        for one, another in zip(plain, deduplicated, strict=True):
            assert np.array_equal(one.segment.vectors, another.segment.vectors)
    assert apart.spared == 0 < once.spared


def test_equal_texts_of_different_contexts_are_embedded_each() -> None:
    stage = InferStage(TextModel, no_picture)
    contexts: tuple[list[str | None], ...] = ([], ["aa", "aa"], ["aa", "bb"], [None, None])
    made = stage.embed([make_segment(2, contexts=each) for each in contexts])
    assert [each.repeated for each in made] == [0, 0, 1, 2]


def test_frames_of_one_file_are_different_pictures() -> None:
    hashes = make_picture("a").hashes
    frames = [make_picture(name, page=page, hashes=hashes) for page, name in enumerate(("a", "bc"), start=1)]
    made = InferStage(never, ImageModel).embed(frames)
    assert [each.repeated for each in made] == [0, 0]
    assert [firsts(each.segment.vectors) for each in made] == [[1], [2]]


def test_stand_ins_embed_a_segment_as_they_embed_its_chunks_alone() -> None:
    text = StandInText(resolve_text("stand-in:8"))
    picture = StandInImage(resolve_image("stand-in:8"))
    segment = make_segment(3, "a")
    alone = text.embed_ids(segment.chunk_ids())
    texts, pictures = embedded(InferStage(lambda: text, lambda: picture), [segment, make_picture("p")])
    assert np.array_equal(texts.vectors, alone)
    assert np.linalg.norm(pictures.vectors) == pytest.approx(1)


def test_a_window_is_as_large_as_a_loaded_model_asks_for() -> None:
    class Wide(ImageModel):
        window = 5_000

    stage = InferStage(TextModel, Wide)
    assert stage.window == WINDOW_CHUNKS
    stage.load_images()
    assert stage.window == 5_000
