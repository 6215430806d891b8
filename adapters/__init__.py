"""Databases by URL scheme. A client library is imported only when its URL is opened.

`SCHEME://…?NAME=VALUE&…`: what comes before `?` names the index, the query holds the database's own options.
Packages that are installed beside the engine add schemes by entry points of the group
`vector_streaming_engine.adapters`, each of which names a `Database`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from adapters.base import Adapter, AdapterOptions
from adapters.database import Database
from adapters.database import IsIndex as IsIndex
from engine.errors import UsageError
from engine.records import index_url
from engine.registry import Registry

#: URL scheme → its `Database`, which says how the client library is installed.
REGISTRY = Registry(
    "adapters",
    {
        "lancedb": "adapters.lancedb:DATABASE",
        "elasticsearch": "adapters.elasticsearch:DATABASE",
        "elasticsearch+https": "adapters.elasticsearch:DATABASE",
        "memory": "adapters.memory:DATABASE",
    },
    base=Database,
)


def schemes() -> list[str]:
    """The schemes that are accepted, each with `://`."""
    return [f"{name}://" for name in REGISTRY.names()]


def check(url: str) -> None:
    """Check all of a URL that can be checked without the database.

    Raises `UsageError` for credentials in the URL, an unknown scheme, and an option that is unknown or wrong.
    """
    _parsed(url)


def connect(url: str, options: AdapterOptions | None = None) -> Adapter:
    """Open the index behind `url`. Raises `UsageError` or `DatabaseUnavailableError`."""
    database, own = _parsed(url)
    options = options or AdapterOptions()
    index = index_url(url)
    if options.exact and not database.capabilities.exact_search:
        raise UsageError(f"--adapter {index}: --exact: {lacking('exact_search')}")
    try:
        return database.connect(index, options, own)
    except ModuleNotFoundError as error:
        raise UsageError(f"--adapter {index}: {error}; {database.install}") from None


def left_as(url: str) -> str | None:
    """A word that changes with every change of the index, where its database has one that needs no client."""
    database, _ = _parsed(url)
    return database.left_as(index_url(url))


def help_text(scheme: str) -> str:
    """What `engine.run --help-adapter SCHEME` prints. Raises `UsageError` for an unknown scheme."""
    name = scheme.removesuffix("://")
    if name not in REGISTRY:
        raise UsageError(f"{scheme}: unknown database; accepted are {', '.join(REGISTRY.names())}")
    database: Database = REGISTRY.get(name)
    return database.help_text()


def lacking(capability: str) -> str:
    """Why a database without that capability (a field of `Capabilities`) refuses, and which have it."""
    what = {
        "exact_search": "compare all vectors",
        "words": "search by words",
        "filters": "filter what it searches",
    }
    able = [f"{name}://" for name, database in _declared() if getattr(database.capabilities, capability)]
    return f"this database can't {what[capability]}; those that can: {', '.join(able) or 'none'}"


def packages() -> list[str]:
    """The distributions on which the databases' speed and answers depend."""
    return list(dict.fromkeys(name for _, database in _declared() for name in database.packages))


def files(url: str) -> tuple[str, ...]:
    """Absolute local paths of what the index behind the URL takes, there or not yet. Raises `UsageError`."""
    database, _ = _parsed(url)
    return database.files(index_url(url))


def index_finders() -> Iterator[IsIndex]:
    """What tells for each database that keeps its indexes in local files whether a path is one of them."""
    found = (database.is_index for _, database in _declared() if database.is_index is not None)
    yield from dict.fromkeys(found)


def _declared() -> Iterator[tuple[str, Database]]:
    for name in REGISTRY.names():
        with suppress(UsageError):  # of another package, which can't be loaded
            yield name, REGISTRY.get(name)


def _parsed(url: str) -> tuple[Database, dict[str, Any]]:
    scheme, separator, rest = url.partition("://")
    # Before anything that repeats the URL: a password must not reach a terminal or a log.
    if "@" in index_url(rest).partition("/")[0]:
        database = REGISTRY.get(scheme) if scheme in REGISTRY else None
        secrets = database.secrets if database else ""
        how = f"set {secrets} in the environment instead" if secrets else "leave them out"
        raise UsageError(f"--adapter: the URL holds credentials; {how}")
    index, _, query = url.partition("?")
    if not separator or scheme not in REGISTRY:
        raise UsageError(f"--adapter {index}: unknown database; accepted are {', '.join(schemes())}")
    database = REGISTRY.get(scheme)
    return database, database.parse(index, query)
