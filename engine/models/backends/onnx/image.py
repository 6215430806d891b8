"""An image tower that was exported to ONNX, from pixels to vectors. Imports torch only for captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.models.backends.onnx.cache import MODEL_FILE, exported
from engine.models.backends.onnx.session import Session
from engine.models.spec import ImageSpec
from engine.records import Pixels, Vector


class OnnxImage:
    """A loaded image tower. Scaling of the pixels and normalisation of the vectors are part of its graph."""

    notes: tuple[str, ...] = ()

    def __init__(self, spec: ImageSpec, folder: Path, session: Callable[[Path], Session] = Session) -> None:
        self.spec = spec
        self._session = session(folder / MODEL_FILE)
        self.window = self._session.window

    def embed_pixels(
        self, pixels: Pixels | Sequence[Pixels], on_batch: Callable[[], None] | None = None
    ) -> Vector:
        """Embed upright RGB pictures of the model's own size, uint8 [n, height, width, 3].

        Returns float32 [n, dimensions] of length one; `on_batch` is called after each picture. Raises
        `TooLargeError` and `DeviceLostError`.
        """
        return self._session.embed(
            ([index] for index in range(len(pixels))),
            (len(pixels), self.spec.dimensions),
            lambda batch: (pixels[batch[0]][None],),
            (np.zeros((1, *self.spec.size, 3), dtype=np.uint8),),
            on_batch,
        )

    def embed_query(self, text: str) -> Vector:
        """Embed a caption by the text tower, which was not exported: by torch."""
        vector: Vector = self._with_text_tower.embed_query(text)
        return vector

    @cached_property
    def _with_text_tower(self) -> Any:
        from engine.models.backends.torch.image import load_image_model

        return load_image_model(self.spec, "cpu", "float32")


def load_onnx_image(
    spec: ImageSpec, room: int | None = None, say: Callable[[str], None] | None = None
) -> OnnxImage:
    """Load the model, exported now if it wasn't before. Raises `NotExportedError`, which says why not."""
    return OnnxImage(spec, exported(spec, room, say))
