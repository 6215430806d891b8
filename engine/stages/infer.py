"""The infer stage: segments in, the same segments with their vectors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

import numpy as np

from engine.models.load import ImageEmbedder, TextEmbedder
from engine.stages.repeats import KEY_BYTES, Embedding, Remembered, content_key
from engine.stages.segment import EmbeddedSegment, ParsedSegment, PictureSegment, TextSegment

#: Chunks that are embedded as one sorted window: enough for even batches, few enough to be done in seconds.
WINDOW_CHUNKS = 128

#: Tokens that are embedded to warm up: whole batches on a CPU of few cores.
WARM_UP_TOKENS = 4_096

#: Why a vector is not written, whatever the database would say to it.
NOT_FINITE = "the model gave a vector that is not finite"


class Embedded(NamedTuple):
    """A segment with its vectors, the tokens of its input, and how many of its vectors were at hand, because
    the same content had been embedded before."""

    segment: EmbeddedSegment
    tokens: int
    repeated: int


@dataclass
class InferStage:
    """Both models, each loaded when the first segment needs it; `on_batch` is called between batches.

    What `remembered` knows is not embedded again; `spared` counts the tokens of such texts.
    """

    load_text: Callable[[], TextEmbedder]
    load_image: Callable[[], ImageEmbedder]
    on_batch: Callable[[], None] | None = None
    remembered: Remembered = field(default_factory=Remembered)
    spared: int = field(default=0, init=False)
    _text: TextEmbedder | None = None
    _image: ImageEmbedder | None = None

    @property
    def lacks_image_model(self) -> bool:
        """Whether no picture has come yet."""
        return self._image is None

    @property
    def window(self) -> int:
        """Chunks to be embedded as one window: as many as a loaded model asks for, if that is more."""
        asked = (getattr(model, "window", None) for model in (self._text, self._image))
        return max(WINDOW_CHUNKS, *(each or 0 for each in asked))

    @property
    def padding(self) -> int:
        """Tokens that the text model has computed as padding so far."""
        return 0 if self._text is None else self._text.padding

    @property
    def growth(self) -> int:
        """Bytes that the text model, and the vectors that are remembered, may still come to take."""
        return self.remembered.most + (0 if self._text is None else self._text.growth)

    def warm_up(self) -> None:
        """Load the text model and embed a batch of its largest inputs, so that it takes what it will take."""
        model = self._load_texts()
        spec = model.spec
        if spec.folder is not None:  # a stand-in takes nothing
            largest = min(spec.max_tokens or WARM_UP_TOKENS, WARM_UP_TOKENS)
            count = WARM_UP_TOKENS // largest
            if model.effective_mode == "ids":
                model.embed_ids([np.ones(largest, dtype=np.int32)] * count, self.on_batch)
            else:
                model.embed_texts(["word " * largest] * count, self.on_batch)

    def _load_texts(self) -> TextEmbedder:
        """The model for texts, loaded now unless it is there."""
        if self._text is None:
            self._text = self.load_text()
        return self._text

    def load_images(self) -> ImageEmbedder:
        """The model for pictures, loaded now unless it is there."""
        if self._image is None:
            self._image = self.load_image()
        return self._image

    def embed_texts(self, segments: Sequence[TextSegment]) -> list[Embedded]:
        """The texts with their vectors.

        Raises what the model raises, except for inputs that are too large: those are refused.
        """
        model = self._load_texts()
        lengths = [length for segment in segments for length in segment.lengths]
        keys = [
            content_key(content, context)
            for segment in segments
            for content, context in zip(segment.hashes, segment.contexts or repeat(None), strict=False)
        ]
        if model.effective_mode == "ids" and all(s.token_ids is not None for s in segments):
            ids = [chunk for segment in segments for chunk in segment.chunk_ids()]
            made = self.remembered.embed(
                keys, lambda chosen: model.embed_ids([ids[i] for i in chosen], self.on_batch)
            )
        else:
            texts = [text for segment in segments for text in segment.texts]
            made = self.remembered.embed(
                keys, lambda chosen: model.embed_texts([texts[i] for i in chosen], self.on_batch)
            )
        self.spared += sum(lengths[position] for position in made.repeated)
        return _dealt(segments, made)

    def embed_pictures(self, segments: Sequence[PictureSegment]) -> list[Embedded]:
        """The pictures' vectors. Raises as `embed_texts`."""
        model = self.load_images()
        pixels = [segment.pixels for segment in segments]
        # All frames of a file have its hash. Longer than a text's key, so that the two never meet.
        keys = [
            bytes.fromhex(segment.hashes[0])[:KEY_BYTES] + (segment.page or 0).to_bytes(4)
            for segment in segments
        ]
        made = self.remembered.embed(
            keys, lambda chosen: model.embed_pixels([pixels[i] for i in chosen], self.on_batch)
        )
        return _dealt(segments, made)

    def embed(self, window: Sequence[ParsedSegment]) -> list[Embedded]:
        """Segments of both kinds, in their order."""
        texts = [segment for segment in window if isinstance(segment, TextSegment)]
        pictures = [segment for segment in window if isinstance(segment, PictureSegment)]
        made = {
            "text": iter(self.embed_texts(texts) if texts else []),
            "image": iter(self.embed_pictures(pictures) if pictures else []),
        }
        return [next(made[segment.kind]) for segment in window]


def _dealt(segments: Sequence[ParsedSegment], made: Embedding) -> list[Embedded]:
    """Each segment with its own rows."""
    vectors, refused = made.vectors, made.refused
    for position in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        refused.setdefault(position, NOT_FINITE)
    found, start = [], 0
    for segment in segments:
        end = start + len(segment.ids)
        reasons = {place - start: refused[place] for place in refused if start <= place < end}
        repeated = sum(start <= place < end for place in made.repeated)
        found.append(Embedded(segment.embedded(vectors[start:end], reasons), segment.tokens, repeated))
        start = end
    return found
