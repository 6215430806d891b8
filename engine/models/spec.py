"""What the torch-free processes know of a model: small, frozen, and stored as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.records import ModelInfo


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A text model as the parsers see it.

    `max_tokens` is the largest input that the model reads, special tokens included (None: no limit).
    `mode` is `ids` where the model's input is exactly the ids of `tokenizer_file` (tokenizers' own JSON),
    `text` where chunks must cross as text and the model's own `encode` is called. `document_prompt` is put in
    front of each chunk, `query_prompt` in front of a query. `stand_in_rate` is tokens a second.
    """

    name: str
    folder: str | None
    digest: str
    dimensions: int
    normalized: bool
    max_tokens: int | None
    mode: Literal["ids", "text"]
    tokenizer_file: str | None
    document_prompt: str = ""
    query_prompt: str = ""
    stand_in_rate: float | None = None

    @property
    def info(self) -> ModelInfo:
        """What the index remembers of this model."""
        return ModelInfo(self.name, self.digest, self.dimensions, self.normalized)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image model as the parsers see it: pictures are made `size` = (height, width) as open_clip would.

    `mean` and `std` are applied by the inference process; `stand_in_rate` is images a second.
    """

    name: str
    folder: str | None
    digest: str
    dimensions: int
    normalized: bool
    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: Literal["shortest", "longest", "squash"]
    interpolation: Literal["bicubic", "bilinear", "nearest"]
    fill_color: int = 0
    stand_in_rate: float | None = None

    @property
    def info(self) -> ModelInfo:
        """What the index remembers of this model."""
        return ModelInfo(self.name, self.digest, self.dimensions, self.normalized)
