"""What ONNX Runtime runs: models that could be exported, on the CPU, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.models.backends.base import (
    Backend,
    CannotRunError,
    Cost,
    ImageEmbedder,
    Say,
    Spec,
    TextEmbedder,
)
from engine.models.backends.onnx.cache import exported, is_exported
from engine.models.backends.onnx.session import OnnxSession, Session
from engine.models.spec import ImageSpec, TextSpec

#: The largest input in tokens: the graph holds attention weights for each pair of tokens and each head, about
#: 100 MiB a thread at this length, growing with its square.
MOST_TOKENS = 1_024


class OnnxBackend(Backend):
    """Models as ONNX graphs, exported once and kept; 8-bit integers are made of those."""

    name = "onnx"
    title = "ONNX Runtime"
    work = frozenset(("text", "image"))
    dtypes: tuple[str, ...] = ("float32", "int8")
    packages = ("onnxruntime",)
    distributions = ("onnxruntime",)
    # Measured with MiniLM-L6, whose weights are mapped.
    cost = Cost(memory=90 << 20, start_s=1.2, exports=True)

    def session(self, dtype: str) -> Callable[[Path], Session]:
        """The session class for a graph."""
        return OnnxSession

    def ready(self, spec: Spec) -> bool:
        try:
            self._check(spec)
        except CannotRunError:
            return True
        return is_exported(spec)

    def prepare(self, spec: Spec, memory_limit: int | None = None, say: Say | None = None) -> None:
        self._check(spec)
        exported(spec, memory_limit, say)

    def _check(self, spec: Spec) -> None:
        super().prepare(spec)
        if isinstance(spec, TextSpec) and (spec.max_tokens is None or spec.max_tokens > MOST_TOKENS):
            limit = "any number of" if spec.max_tokens is None else f"{spec.max_tokens:,}"
            raise CannotRunError(f"it reads {limit} tokens at once, above {MOST_TOKENS:,}")

    def load_text(self, spec: TextSpec, device: str, dtype: str) -> TextEmbedder:
        from engine.models.backends.onnx.text import OnnxText

        return OnnxText(spec, exported(spec), self.session(dtype))

    def load_image(self, spec: ImageSpec, device: str, dtype: str) -> ImageEmbedder:
        from engine.models.backends.onnx.image import OnnxImage

        return OnnxImage(spec, exported(spec), self.session(dtype))
