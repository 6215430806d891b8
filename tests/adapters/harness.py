"""What the contract's tests share: an index to work on, and how it is filled and read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import adapters
from adapters.base import Adapter, AdapterOptions
from adapters.database import Database
from engine.records import Record
from tests.records import make_schema

#: Options as a run has them where nothing is asked for.
OPTIONS = AdapterOptions()


def stored(adapter: Adapter) -> dict[str, dict[str, object]]:
    """Everything in the index by id; fails where an id is there twice."""
    rows = list(adapter.scan(with_embeddings=True))
    by_id = {str(row["id"]): row for row in rows}
    assert len(by_id) == len(rows), "an id is there twice"
    return by_id


def write(adapter: Adapter, records: list[Record], maybe_present: bool = False) -> None:
    """Write records that must all be accepted."""
    assert adapter.write(records, maybe_present) == [None] * len(records)


class adapters_closed:  # noqa: N801 - reads as a function
    """An adapter of its own, closed at the end of the block."""

    def __init__(self, url: str, options: AdapterOptions = OPTIONS) -> None:
        self._adapter = adapters.connect(url, options)

    def __enter__(self) -> Adapter:
        return self._adapter

    def __exit__(self, *_: object) -> None:
        self._adapter.close()


class IndexFixtures:
    """One index, which the fixture `url` names; an adapter's test module says where."""

    @pytest.fixture
    def url(self) -> str:
        """The URL of an index that doesn't exist yet."""
        raise NotImplementedError

    def drop(self, url: str) -> None:
        """Delete the index behind an adapter's back."""
        raise NotImplementedError

    def make_foreign(self, url: str) -> None:
        """Make something under that name which is not of this engine."""
        raise NotImplementedError

    @pytest.fixture
    def adapter(self, url: str) -> Iterator[Adapter]:
        adapter = adapters.connect(url, OPTIONS)
        yield adapter
        adapter.close()

    @pytest.fixture
    def index(self, adapter: Adapter) -> Adapter:
        """An adapter whose index exists and is empty."""
        adapter.ensure_schema(make_schema())
        return adapter

    @pytest.fixture
    def database(self, url: str) -> Database:
        """What is declared of this kind of database."""
        database: Database = adapters.REGISTRY.get(url.partition("://")[0])
        return database
