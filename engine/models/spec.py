"""The description of a model for processes without torch: small, frozen, stored as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from engine.records import ModelInfo


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A text model as the parsers see it.

    `max_tokens` is the largest input that the model reads, special tokens included (None: no limit).
    `mode` is `ids` where the model's input is exactly the ids of `tokenizer_file` (tokenizers' own JSON),
    `text` where chunks must cross as text and the model's own `encode` is called; its `tokenizer_file` then
    only counts. `int8` is of a model whose matrices are 8-bit integers, which counts as a model of its own.
    `document_prompt` is put in front of each chunk, `query_prompt` in front of a query.
    `stand_in_rate` is tokens a second; `backend` is the only one that runs it (None: any that can).
    `notes` are lines that the user should see.
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
    backend: str | None = None
    trust_remote_code: bool = False
    int8: bool = False
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        """What the index remembers of this model."""
        return ModelInfo(self.name, self.digest, self.dimensions, self.normalized)


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image model as the parsers see it: pictures are made `size` = (height, width) as open_clip would.

    `mean` and `std` are applied by the inference process; `stand_in_rate` is images a second, `backend` as in
    `TextSpec`. `architecture` is one of open_clip's own (None: the folder's `open_clip_config.json` has it),
    with `weights_file` in it. `notes` are lines that the user should see.
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
    backend: str | None = None
    architecture: str | None = None
    weights_file: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        """What the index remembers of this model."""
        return ModelInfo(self.name, self.digest, self.dimensions, self.normalized)


def to_json(spec: TextSpec | ImageSpec) -> str:
    """The specification as one line of JSON, which `from_json` reads."""
    kind = "text" if isinstance(spec, TextSpec) else "image"
    return json.dumps({"kind": kind, **asdict(spec)})


def from_json(line: str) -> TextSpec | ImageSpec:
    """The specification that `to_json` wrote. Raises `ValueError` for anything else."""
    try:
        fields = json.loads(line)
        kind = fields.pop("kind")
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        if kind == "text":
            return TextSpec(**fields)
        if kind == "image":
            return ImageSpec(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a model specification: {line[:200]}") from error
    raise ValueError(f"not a model specification: kind {kind!r}")
