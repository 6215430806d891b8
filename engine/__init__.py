"""Embeds large corpora of text, PDFs and pictures and streams the vectors into a database.

What is named here is the Python interface; docs/python-api.md shows it at work. It is imported on first use,
because every process of a run imports this package and most need nothing of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    #: The installed version; a plain checkout says so.
    __version__: str

    from engine.api.hits import Hits
    from engine.api.interface import (
        EmbeddingModel,
        EmbedSummary,
        EmbedWarning,
        Failure,
        TextEmbedConfig,
        embed_directory,
        embed_file,
        embed_image_directory,
        embed_items,
        embed_query,
        embed_texts,
    )
    from engine.api.searcher import Searcher
    from engine.records import Hit

#: The public names by the module that has them.
_MODULES = {"Hit": "engine.records", "Hits": "engine.api.hits", "Searcher": "engine.api.searcher"}

__all__ = [
    "EmbedSummary",
    "EmbedWarning",
    "EmbeddingModel",
    "Failure",
    "Hit",
    "Hits",
    "Searcher",
    "TextEmbedConfig",
    "embed_directory",
    "embed_file",
    "embed_image_directory",
    "embed_items",
    "embed_query",
    "embed_texts",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("vector-streaming-engine")
        except PackageNotFoundError:
            return "0+checkout"
    if name in __all__:
        return getattr(importlib.import_module(_MODULES.get(name, "engine.api.interface")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
