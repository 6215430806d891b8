"""The infer stage: segments in, the same segments with their vectors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.errors import HandOverError
from engine.models.batching import TooLargeError
from engine.models.load import ImageEmbedder, TextEmbedder
from engine.records import Vector
from engine.stages.segment import Segment

#: Chunks that are embedded as one sorted window: enough for even batches, few enough to be done in seconds.
WINDOW_CHUNKS = 128

#: Tokens of the batch that is embedded to warm up: a whole one on a CPU.
WARM_UP_TOKENS = 2_000

#: Why a vector is not written, whatever the database would say to it.
NOT_FINITE = "the model gave a vector that is not finite"


@dataclass
class InferStage:
    """Both models, each loaded when the first segment needs it; `on_batch` is called between batches."""

    load_text: Callable[[], TextEmbedder]
    load_image: Callable[[], ImageEmbedder]
    on_batch: Callable[[], None] | None = None
    _text: TextEmbedder | None = None
    _image: ImageEmbedder | None = None

    @property
    def lacks_image_model(self) -> bool:
        """Whether no picture has come yet."""
        return self._image is None

    @property
    def padding(self) -> int:
        """Tokens that the text model has computed as padding so far."""
        return 0 if self._text is None else self._text.padding

    def warm_up(self) -> None:
        """Load the text model and embed a batch of its largest inputs, so that it takes what it will take."""
        if self._text is None:
            self._text = self.load_text()
        spec = self._text.spec
        if spec.folder is not None:  # a stand-in takes nothing
            largest = min(spec.max_tokens or WARM_UP_TOKENS, WARM_UP_TOKENS)
            count = WARM_UP_TOKENS // largest
            if self._text.effective_mode == "ids":
                self._text.embed_ids([np.ones(largest, dtype=np.int32)] * count, self.on_batch)
            else:
                self._text.embed_texts(["word " * largest] * count, self.on_batch)

    def load_images(self) -> None:
        """Load the model for pictures, unless it is there."""
        if self._image is None:
            self._image = self.load_image()

    def embed(self, window: Sequence[Segment]) -> None:
        """Give each segment of the window its `vectors`, and what of them is `refused`.

        Raises what the models raise, except for inputs that are too large: those are refused.
        """
        texts = [segment for segment in window if segment.kind == "text"]
        if texts:
            self._embed_texts(texts)
        pictures = [segment for segment in window if segment.pixels is not None]
        if pictures:
            if self._image is None:
                self._image = self.load_image()
            stacked = np.stack([segment.pixels for segment in pictures if segment.pixels is not None])
            _embed(pictures, partial(self._image.embed_pixels, stacked, self.on_batch))

    def _embed_texts(self, segments: Sequence[Segment]) -> None:
        if self._text is None:
            self._text = self.load_text()
        if self._text.effective_mode == "ids" and all(s.token_ids is not None for s in segments):
            ids = [chunk for segment in segments for chunk in segment.chunk_ids()]
            _embed(segments, partial(self._text.embed_ids, ids, self.on_batch))
        else:
            texts = [text for segment in segments for text in segment.texts]
            _embed(segments, partial(self._text.embed_texts, texts, self.on_batch))


def _embed(segments: Sequence[Segment], embed: Callable[[], Vector]) -> None:
    try:
        vectors, refused = embed(), {}
    except TooLargeError as error:
        vectors, refused = error.vectors, dict.fromkeys(error.positions, str(error))
    wanted = sum(len(segment.ids) for segment in segments)
    if len(vectors) != wanted:
        raise HandOverError("from the chunks to the model", f"{len(vectors)} vectors for {wanted} chunks")
    for position in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        refused.setdefault(position, NOT_FINITE)
    start = 0
    for segment in segments:
        end = start + len(segment.ids)
        segment.vectors = np.asarray(vectors[start:end], dtype=np.float32)
        segment.refused = {place - start: refused[place] for place in refused if start <= place < end}
        segment.token_ids = segment.pixels = None
        start = end
