"""What torch runs: everything that sentence-transformers and open_clip can load, on any device."""

from __future__ import annotations

from engine.machine.processor import computes_in_bfloat16
from engine.models.backends.base import (
    Backend,
    CaptionEmbedder,
    Cost,
    ImageEmbedder,
    TextEmbedder,
    kind_of,
)
from engine.models.spec import ImageSpec, TextSpec


class TorchBackend(Backend):
    """sentence-transformers and open_clip, the reference for all others."""

    name = title = "torch"
    work = frozenset(("text", "image", "caption"))
    devices = ("cpu", "cuda", "mps")
    dtypes = ("float32", "bfloat16", "float16")
    inputs = ("ids", "text")
    token_outputs = True
    packages = ("torch", "sentence_transformers")
    distributions = ("torch", "transformers", "sentence-transformers", "open-clip-torch")
    # Measured with MiniLM-L6 in float32, its 90 MB of weights left out.
    cost = Cost(memory=850 << 20, start_s=10)

    def auto_dtypes(self, device: str) -> tuple[str, ...]:
        """On a GPU `auto`, which asks the driver; on a CPU bfloat16 too, where it has instructions for it."""
        if kind_of(device) == "cuda":
            return ("auto",)
        fast = device == "cpu" and computes_in_bfloat16()
        return ("float32", "bfloat16") if fast else ("float32",)

    def load_text(self, spec: TextSpec, device: str, dtype: str) -> TextEmbedder:
        from engine.models.backends.torch.text_load import load_text_model

        return load_text_model(spec, device, dtype)

    def load_image(self, spec: ImageSpec, device: str, dtype: str) -> ImageEmbedder:
        from engine.models.backends.torch.image import load_image_model

        return load_image_model(spec, device, dtype)

    def load_caption(self, spec: ImageSpec, device: str, dtype: str) -> CaptionEmbedder:
        from engine.models.backends.torch.image import load_image_model

        return load_image_model(spec, device, dtype)
