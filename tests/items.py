"""Items for tests that never open them."""

from __future__ import annotations

from engine.sources.base import Item


def item(uri: str, size: int = 1, mtime_ns: int = 1) -> Item:
    """A file of that path, as the local source would list it."""
    return Item(uri, size, str(mtime_ns), mtime_ns, uri)
