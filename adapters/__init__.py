"""Databases by URL scheme. A client library is imported only when its URL is opened."""

from __future__ import annotations

import importlib

from adapters.base import Adapter, AdapterOptions
from engine.errors import UsageError

#: URL scheme → module with `connect(url, options) -> Adapter`.
SCHEMES = {
    "lancedb": "adapters.lancedb",
    "elasticsearch": "adapters.elasticsearch",
    "elasticsearch+https": "adapters.elasticsearch",
    "memory": "adapters.memory",
}

#: URL scheme → how its client library is installed.
DRIVERS = {
    "lancedb": "pip install lancedb pyarrow",
    "elasticsearch": "pip install 'elasticsearch>=8.19,<9' orjson",
    "elasticsearch+https": "pip install 'elasticsearch>=8.19,<9' orjson",
}


def scheme_of(url: str) -> str:
    """The scheme of an adapter URL. Raises `UsageError` where no adapter has it."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"--adapter {url}: unknown database; accepted are {known}")
    return scheme


def connect(url: str, options: AdapterOptions | None = None) -> Adapter:
    """Open the database behind `url`. Raises `UsageError` or `DatabaseUnavailableError`."""
    scheme = scheme_of(url)
    try:
        module = importlib.import_module(SCHEMES[scheme])
    except ModuleNotFoundError as error:
        raise UsageError(f"--adapter {url}: {error}; try {DRIVERS.get(scheme, 'a new install')}") from None
    adapter: Adapter = module.connect(url, options or AdapterOptions())
    return adapter
