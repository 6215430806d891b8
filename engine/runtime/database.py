"""What a run's configuration says to the adapter of its database."""

from __future__ import annotations

from adapters import scheme_of
from adapters.base import AdapterOptions
from engine.config import Config


def adapter_options(config: Config) -> AdapterOptions:
    """The adapter's part of the options."""
    database = config.database
    lancedb = scheme_of(database.adapter) == "lancedb"
    return AdapterOptions(
        database.bulk_bytes,
        database.bulk_concurrency,
        database.lancedb_index if lancedb else database.es_index_options,
        database.es_store_vectors,
        database.full,
        task=config.task.name if config.task.fleet else None,
    )
