"""Databases by URL scheme. A client library is imported only when its URL is opened."""

from __future__ import annotations

import importlib

from adapters.base import Adapter
from engine.errors import UsageError

#: URL scheme → module with `connect(url) -> Adapter`.
SCHEMES = {
    "lancedb": "adapters.lancedb",
    "elasticsearch": "adapters.elasticsearch",
    "elasticsearch+https": "adapters.elasticsearch",
    "memory": "adapters.memory",
}


def scheme_of(url: str) -> str:
    """The scheme of an adapter URL. Raises `UsageError` where no adapter has it."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"--adapter {url}: unknown database; accepted are {known}")
    return scheme


def connect(url: str) -> Adapter:
    """Open the database behind `url`. Raises `UsageError` or `DatabaseUnavailableError`."""
    adapter: Adapter = importlib.import_module(SCHEMES[scheme_of(url)]).connect(url)
    return adapter
