"""The infer stage: segments in, the same segments with their vectors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.models.load import ImageEmbedder, TextEmbedder
from engine.records import Vector
from engine.stages.segment import Segment

#: Chunks that are embedded as one sorted window: enough for even batches, few enough to be done in seconds.
WINDOW_CHUNKS = 128


@dataclass
class InferStage:
    """Both models, each loaded when the first segment needs it; `on_batch` is called between batches."""

    load_text: Callable[[], TextEmbedder]
    load_image: Callable[[], ImageEmbedder]
    on_batch: Callable[[], None] | None = None
    _text: TextEmbedder | None = None
    _image: ImageEmbedder | None = None

    def embed(self, window: Sequence[Segment]) -> None:
        """Give each segment of the window its `vectors`. Raises what the models raise."""
        texts = [segment for segment in window if segment.kind == "text"]
        if texts:
            self._embed_texts(texts)
        pictures = [segment for segment in window if segment.pixels is not None]
        if pictures:
            if self._image is None:
                self._image = self.load_image()
            stacked = np.stack([segment.pixels for segment in pictures if segment.pixels is not None])
            _hand_out(pictures, self._image.embed_pixels(stacked, self.on_batch))

    def _embed_texts(self, segments: Sequence[Segment]) -> None:
        if self._text is None:
            self._text = self.load_text()
        if self._text.effective_mode == "ids" and all(s.token_ids is not None for s in segments):
            ids = [chunk for segment in segments for chunk in segment.chunk_ids()]
            vectors = self._text.embed_ids(ids, self.on_batch)
        else:
            texts = [text for segment in segments for text in segment.texts]
            vectors = self._text.embed_texts(texts, self.on_batch)
        _hand_out(segments, vectors)


def _hand_out(segments: Sequence[Segment], vectors: Vector) -> None:
    wanted = sum(len(segment.ids) for segment in segments)
    if len(vectors) != wanted:
        raise RuntimeError(f"the model gave {len(vectors)} vectors for {wanted} chunks")
    position = 0
    for segment in segments:
        segment.vectors = np.asarray(vectors[position : position + len(segment.ids)], dtype=np.float32)
        segment.token_ids = segment.pixels = None
        position += len(segment.ids)
