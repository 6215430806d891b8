"""An image tower that was exported to ONNX, from pixels to vectors. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.models.backends.base import BackendChoice, ImageEmbedder, OnBatch
from engine.models.backends.onnx.cache import MODEL_FILE
from engine.models.backends.onnx.session import OnnxSession, Session
from engine.models.spec import ImageSpec
from engine.records import Pixels, Vector


class OnnxImage(ImageEmbedder):
    """A loaded image tower. Scaling of the pixels and normalisation of the vectors are part of its graph."""

    def __init__(
        self, spec: ImageSpec, folder: Path, session: Callable[[Path], Session] = OnnxSession
    ) -> None:
        self.spec = spec
        self._session = session(folder / MODEL_FILE)
        self.choice = BackendChoice(self._session.backend, self._session.dtype)
        self.window = self._session.window

    def embed_pixels(self, pixels: Pixels | Sequence[Pixels], on_batch: OnBatch | None = None) -> Vector:
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
