"""What happens to a database behind the engine's back, for each kind of database."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lancedb
import pyarrow as pa
from elasticsearch import Elasticsearch


class Database(Protocol):
    """An index that somebody else than the engine changes."""

    @property
    def url(self) -> str:
        """The adapter's URL."""

    def delete(self, ids: list[str]) -> None:
        """Delete records."""

    def alter(self, record: str, values: Mapping[str, object]) -> None:
        """Change fields of a record."""

    def copy(self, record: str, new_id: str, values: Mapping[str, object]) -> None:
        """Add a record that is like another, but for its id and these fields."""

    def drop(self) -> None:
        """Delete the index."""

    def back_up(self) -> None:
        """Keep the index as it is now."""

    def restore(self) -> None:
        """Put the index that was kept in the place of what is there."""


@dataclass
class Lance:
    """A directory of LanceDB."""

    folder: Path

    @property
    def url(self) -> str:
        return f"lancedb://{self.folder}"

    @property
    def _table(self) -> Any:
        return lancedb.connect(self.folder).open_table("chunks")

    def delete(self, ids: list[str]) -> None:
        self._table.delete(f"id IN ({', '.join(repr(one) for one in ids)})")

    def alter(self, record: str, values: Mapping[str, object]) -> None:
        self._table.update(where=f"id = '{record}'", values=dict(values))

    def copy(self, record: str, new_id: str, values: Mapping[str, object]) -> None:
        table = self._table
        (row,) = table.search().where(f"id = '{record}'").to_list()
        row |= {"id": new_id, **values}
        table.add(pa.Table.from_pylist([{name: row[name] for name in table.schema.names}], table.schema))

    def drop(self) -> None:
        shutil.rmtree(self.folder)

    def back_up(self) -> None:
        shutil.copytree(self.folder, self.folder.with_suffix(".kept"))

    def restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.folder.with_suffix(".kept"), self.folder)


@dataclass
class Elastic:
    """An index of a real Elasticsearch; `url` is the adapter's."""

    url: str
    client: Elasticsearch

    @property
    def name(self) -> str:
        """The alias."""
        return self.url.rpartition("/")[2]

    def delete(self, ids: list[str]) -> None:
        for one in ids:
            self.client.delete(index=self.name, id=one, refresh=True)

    def alter(self, record: str, values: Mapping[str, object]) -> None:
        self.client.update(index=self.name, id=record, doc=dict(values), refresh=True)

    def copy(self, record: str, new_id: str, values: Mapping[str, object]) -> None:
        row = self.client.get(index=self.name, id=record)["_source"]
        self.client.index(index=self.name, id=new_id, document={**row, "id": new_id, **values}, refresh=True)

    def drop(self) -> None:
        self.client.indices.delete(index=f"{self.name}-000001")

    def back_up(self) -> None:
        self._copy(f"{self.name}-000001", f"kept-{self.name}", {})

    def restore(self) -> None:
        """As a restored snapshot, the index has the same name and another uuid."""
        self.client.indices.delete(index=f"{self.name}-000001", ignore_unavailable=True)
        self._copy(f"kept-{self.name}", f"{self.name}-000001", {self.name: {}})
        self.client.indices.delete(index=f"kept-{self.name}")

    def _copy(self, index: str, to: str, aliases: dict[str, Any]) -> None:
        self.client.indices.put_settings(index=index, settings={"index.blocks.write": True})
        writable = {"index.blocks.write": None}
        self.client.indices.clone(index=index, target=to, aliases=aliases, settings=writable)
        self.client.indices.put_settings(index=index, settings=writable)
