"""Finds the models and the chunker that an index was made with.

Every function raises `UsageError` where they can't be had here; `url` names the index in the error.
"""

from __future__ import annotations

from engine import chunkers
from engine.chunkers.base import Chunker
from engine.errors import UsageError
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.records import IndexSchema, ModelInfo


def specs(schema: IndexSchema, url: str) -> tuple[TextSpec, ImageSpec | None]:
    """The models that the index was made with."""
    if schema.text_model is None:
        raise UsageError(f"--adapter {url}: the index names no text model, so it was not made by engine.run")
    text = resolve_text(schema.text_model.name)
    _check_same(text, schema.text_model, url)
    image = None
    if schema.image_model is not None:
        image = resolve_image(schema.image_model.name)
        _check_same(image, schema.image_model, url)
    return text, image


def _check_same(spec: TextSpec | ImageSpec, made_with: ModelInfo, url: str) -> None:
    if (spec.digest, spec.dimensions) != (made_with.digest, made_with.dimensions):
        raise UsageError(
            f"--adapter {url}: the index was made with {made_with.name} of digest {made_with.digest[:12]};"
            f" the files of that name here have digest {spec.digest[:12]}: restore the original files"
        )


def chunker(schema: IndexSchema, spec: TextSpec, url: str) -> Chunker:
    """The chunker, where this engine still cuts the same chunks."""
    try:
        return chunkers.remake(spec, schema.chunker)
    except UsageError as error:
        raise UsageError(f"--adapter {url}: its texts can't be cut into the same chunks: {error}") from None
