"""Loads what a specification describes, by the library that is to run it, and imports no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from engine.models.backend import takes_onnx
from engine.models.onnx_cache import NotExportedError
from engine.models.spec import ImageSpec, TextSpec
from engine.models.stand_in import StandInImage, StandInText
from engine.records import Pixels, TokenIds, Vector


@runtime_checkable
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


def load_text(
    spec: TextSpec,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    room: int | None = None,
    say: Callable[[str], None] | None = None,
) -> TextEmbedder:
    """The model of the specification by ONNX Runtime or by torch (`engine.models.text`), or a stand-in.

    ONNX Runtime serves where `engine.models.backend` says so and the model can be exported; where it can't,
    torch does, and a note tells why. `room` is the bytes of memory that an export may take, and
    `say` is told when one begins. Raises `UsageError` for what can't be had, and `DeviceLostError`.
    """
    if spec.folder is None:
        return StandInText(spec)
    note = None
    if takes_onnx(backend, device, dtype):
        try:
            from engine.models.onnx_text import load_onnx_text

            return load_onnx_text(spec, room, say)
        except (NotExportedError, ImportError) as error:
            note = f"text model {spec.name} is run by torch, not ONNX Runtime: {error}"
    from engine.models.text import load_text_model

    torch_model = load_text_model(spec, device, dtype)
    torch_model.notes += (note,) if note else ()
    return torch_model


def load_image(
    spec: ImageSpec,
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    room: int | None = None,
    say: Callable[[str], None] | None = None,
) -> ImageEmbedder:
    """The model of the specification, as `load_text` does it, by torch in `engine.models.clip`."""
    if spec.folder is None:
        return StandInImage(spec)
    note = None
    if takes_onnx(backend, device, dtype):
        try:
            from engine.models.onnx_image import load_onnx_image

            return load_onnx_image(spec, room, say)
        except (NotExportedError, ImportError) as error:
            note = f"image model {spec.name} is run by torch, not ONNX Runtime: {error}"
    from engine.models.clip import load_image_model

    torch_model = load_image_model(spec, device, dtype)
    torch_model.notes += (note,) if note else ()
    return torch_model
