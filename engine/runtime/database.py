"""What a run's configuration says to the adapter of its database."""

from __future__ import annotations

from adapters.base import AdapterOptions
from engine.config import Config

#: Threads that a database's client may compute with while a run's other processes do.
CLIENT_THREADS = 1


def adapter_options(config: Config) -> AdapterOptions:
    """The adapter's part of the options."""
    return AdapterOptions(
        config.database.bulk_bytes,
        config.database.bulk_concurrency,
        task=config.task.name if config.task.fleet else None,
        threads=CLIENT_THREADS,
    )
