"""Loads what a specification describes: a stand-in without torch, anything else with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import StandInImage, StandInText
from engine.records import Pixels, TokenIds, Vector


class TextEmbedder(Protocol):
    """A loaded text model. `effective_mode` says whether ids or texts are to be given to it.

    `notes` are lines that the user should see, beside those of the specification. `on_batch` is called
    after each batch, so that the caller can show that it is alive.
    """

    spec: TextSpec
    effective_mode: Literal["ids", "text"]
    notes: tuple[str, ...]

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        """Whole inputs, int32 [tokens] each, to float32 [n, dimensions]."""

    def embed_texts(self, texts: Sequence[str], on_batch: Callable[[], None] | None = None) -> Vector:
        """Documents without their prompt to float32 [n, dimensions]."""

    def embed_query(self, text: str) -> Vector:
        """A query without its prompt to float32 [dimensions]."""


class ImageEmbedder(Protocol):
    """A loaded image model."""

    spec: ImageSpec
    notes: tuple[str, ...]

    def embed_pixels(self, pixels: Pixels, on_batch: Callable[[], None] | None = None) -> Vector:
        """Pictures of the model's own size, uint8 [n, height, width, 3], to float32 [n, dimensions]."""

    def embed_query(self, text: str) -> Vector:
        """A caption to float32 [dimensions]."""


def load_text(spec: TextSpec, device: str = "auto", dtype: str = "auto") -> TextEmbedder:
    """The model of the specification, as `engine.models.text.load_text_model` loads it, or a stand-in."""
    if spec.folder is None:
        return StandInText(spec)
    from engine.models.text import load_text_model

    return load_text_model(spec, device, dtype)


def load_image(spec: ImageSpec, device: str = "auto", dtype: str = "auto") -> ImageEmbedder:
    """The model of the specification, as `engine.models.clip.load_image_model` loads it, or a stand-in."""
    if spec.folder is None:
        return StandInImage(spec)
    from engine.models.clip import load_image_model

    return load_image_model(spec, device, dtype)
