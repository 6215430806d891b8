"""A database in the memory of its process: for tests, and for trying the engine in a notebook."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.base import Adapter, AdapterOptions, Capabilities
from adapters.database import Database
from adapters.schema import as_row, merged, refusals
from engine.errors import IndexLostError, UsageError
from engine.records import IndexSchema, Record


@dataclass
class _Index:
    schema: IndexSchema
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    records: dict[str, Record] = field(default_factory=dict)


#: Every index of this process by its name.
_INDEXES: dict[str, _Index] = {}


def connect(url: str, options: AdapterOptions, own: Mapping[str, Any]) -> MemoryAdapter:
    """Open `memory://NAME`; every adapter of one name in one process shares the records."""
    name = url.partition("://")[2]
    if not name:
        raise UsageError(f"--adapter {url}: name the index, as in memory://trial")
    return MemoryAdapter(name)


DATABASE = Database(
    form="memory://NAME",
    about="records that live and die with their process, for tests and notebooks",
    install="nothing to install",
    capabilities=Capabilities(exact_search=True, native_upsert=True),
    connect=connect,
)


def drop(name: str) -> None:
    """Delete an index; no error where there is none."""
    _INDEXES.pop(name, None)


class MemoryAdapter(Adapter):
    """Records in a dictionary. It keeps the whole contract, but records end with the process."""

    scheme = "memory"
    capabilities = DATABASE.capabilities

    def __init__(self, name: str) -> None:
        self._name = name

    def drop(self) -> None:
        drop(self._name)

    def identity(self) -> str | None:
        index = _INDEXES.get(self._name)
        return index.identity if index else None

    def schema(self) -> IndexSchema | None:
        index = _INDEXES.get(self._name)
        return index.schema if index else None

    def ensure_schema(self, schema: IndexSchema) -> None:
        index = _INDEXES.setdefault(self._name, _Index(schema))
        index.schema = merged(index.schema, schema, f"memory://{self._name}")

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        index = self._existing()
        outcomes = refusals(records, index.schema)
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is None:
                index.records.setdefault(record.id, record)
        return outcomes

    def delete(self, ids: Sequence[str]) -> int:
        records = self._existing().records
        return sum(records.pop(record_id, None) is not None for record_id in ids)

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        index = _INDEXES.get(self._name)
        if index is None:
            return
        for record in list(index.records.values()):
            if source in (None, record.source):
                yield as_row(record, with_embeddings, index.schema)

    def count(self) -> int:
        index = _INDEXES.get(self._name)
        return len(index.records) if index else 0

    def close(self) -> None:
        """Nothing to free: the records stay for the next adapter of this name."""

    def _existing(self) -> _Index:
        index = _INDEXES.get(self._name)
        if index is None:
            raise IndexLostError(f"memory://{self._name}: the index does not exist (any more)")
        return index
