"""The adapter: one index, or an alias over one index, of a running Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import elastic_transport
import elasticsearch
import numpy as np

from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Capabilities, Filters
from adapters.elasticsearch import DATABASE, INDEX_KINDS, documents, mapping, query
from adapters.elasticsearch.bulk import BulkSender, Item
from adapters.elasticsearch.generations import Generations, Index, loading_alias
from adapters.elasticsearch.location import Location, reason_of
from adapters.elasticsearch.version import BASE64_VECTORS, server_version
from adapters.schema import merged, model_of, refusals
from engine.errors import DatabaseUnavailableError, EngineError, IndexLostError, UsageError
from engine.records import Hit, IndexSchema, Kind, Record, Vector

#: Records in one page of a scan: about 8 MB of JSON with vectors of 384 dimensions.
SCAN_ROWS = 1000

#: How long the server keeps a scan's view of the index between two pages.
SCAN_KEEP_ALIVE = "5m"

#: Times that a schema is given to an index that others may change meanwhile.
FIT_ATTEMPTS = 5


def connect(url: str, options: AdapterOptions, own: Mapping[str, Any]) -> ElasticsearchAdapter:
    """Open the index behind `url`; nothing is created before `ensure_schema`.

    Raises `UsageError` for a bad URL or refused credentials, `DatabaseUnavailableError` without an answer.
    """
    location = Location.parse(url)
    adapter = ElasticsearchAdapter(location, options, own["index"], own["store_vectors"])
    try:
        adapter.identity()
    except BaseException:
        adapter.close()
        raise
    return adapter


class ElasticsearchAdapter(Adapter):
    """One index. Acknowledged means what the server's `index.translog.durability` says: by default synced.

    A new index `NAME-000001` gets the alias `NAME`, the name in the URL, so that a later generation can take
    its place in one request. Records are written with `create`: an id is a digest of all that matters in a
    record, so a conflict (409) says that it is there already. Writing never creates an index: an alias is
    required where there is one, and the index's uuid is compared before each request.
    """

    scheme = "elasticsearch"

    def __init__(
        self, location: Location, options: AdapterOptions, index_kind: str | None, store_vectors: bool | None
    ) -> None:
        self._location = location
        self._client = location.client(connections=options.bulk_concurrency)
        self._sender = BulkSender(
            self._client, location, self._check_same, options.bulk_bytes, options.bulk_concurrency
        )
        self._index_kind = index_kind
        self._store_vectors = store_vectors
        self._generations = Generations(self._client, location)
        #: The name under which the index is reached that this process reads and writes.
        self._name = location.index
        self._takes_base64: bool | None = None
        self._written_to: Index | None = None
        self._schema: IndexSchema | None = None
        self._unrefreshed = True

    @property
    def capabilities(self) -> Capabilities:
        index = self._find()
        if index is None or mapping.gives_vectors(index.mapping):
            return DATABASE.capabilities
        return replace(DATABASE.capabilities, vectors="none")

    def identity(self) -> str | None:
        index = self._find()
        return index.uuid if index else None

    def schema(self) -> IndexSchema | None:
        index = self._find()
        return mapping.stored_schema(index.mapping, self._location.url) if index else None

    def ensure_schema(self, schema: IndexSchema) -> None:
        index = self._find()
        if index is None:
            self._generations.first(schema, self._kind, self._store_vectors)
            index = self._find()
        if index is None:
            raise UsageError(
                f"{self._location.url}: {self._location.index}-000001 exists without the alias"
                f" {self._location.index}; give it the alias, or delete it"
            )
        # Another task of a fleet may have put its own in the place of what was put: read until nothing lacks.
        for _ in range(FIT_ATTEMPTS):
            if not self._fit(index, schema):
                break
            index = self._find() or index

    def resume(self, identity: str) -> bool:
        index = self._generations.unfinished(identity)
        if index is not None:
            self._aim(index)
        return index is not None

    def begin_generation(self, schema: IndexSchema) -> bool:
        index = self._find()
        if index is None:
            return False
        if not index.is_alias:
            raise UsageError(
                f"{self._location.url}: this is an index and not an alias, so --full can't replace it:"
                " name another index, or put an alias over this one"
            )
        self._aim(self._generations.next(schema, self._kind, self._store_vectors))
        self._schema = schema
        return True

    @property
    def _kind(self) -> str:
        """The kind of vector index that a new one gets."""
        return self._index_kind or INDEX_KINDS[0]

    def _aim(self, index: Index) -> None:
        self._name, self._written_to, self._schema = index.name, index, None
        self._sender.aim(index.name)

    def _fit(self, index: Index, schema: IndexSchema) -> bool:
        """Whether the index lacked something of the schema, which it has been given."""
        meta = index.mapping.get("_meta") or {}
        if mapping.META_KEY in meta:
            existing = mapping.stored_schema(index.mapping, self._location.url)
        else:  # a user's own index, which has every field from the start
            mapping.check_fits(index.mapping, schema, self._location.url)
            existing = schema
        result = merged(existing, schema, self._location.url, generations=True)
        self._check_options(index)
        lacking = result != existing or mapping.META_KEY not in meta
        if lacking:
            wanted = mapping.mappings(result, self._kind)
            known = index.mapping.get("properties", {})
            added = {name: field for name, field in wanted["properties"].items() if name not in known}
            with self._location.errors():
                self._client.indices.put_mapping(
                    index=index.index, properties=added, meta={**meta, **wanted["_meta"]}
                )
        self._schema, self._written_to = result, index
        return lacking

    def _check_options(self, index: Index) -> None:
        """An option for new indices that this one doesn't have shall not be passed over in silence."""
        has, asked = mapping.vector_index(index.mapping), self._index_kind
        if asked and has and has != asked:
            option = f"option index={asked}: the index has {has}"
        elif self._store_vectors and not mapping.gives_vectors(index.mapping):
            option = "option store_vectors=true: the index was made without"
        else:
            return
        raise UsageError(f"{self._location.url}: {option}; leave it out, or load anew with --full")

    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        index, schema = self._writable()
        outcomes = refusals(records, schema)
        accepted = [position for position, refused in enumerate(outcomes) if refused is None]
        lines = documents.create_lines((records[p] for p in accepted), self._base64())
        self._unrefreshed = True
        for position, item in zip(accepted, self._sender.send(lines, index.is_alias), strict=True):
            outcomes[position] = _outcome(item)
        return outcomes

    def delete(self, ids: Sequence[str]) -> int:
        index, _ = self._writable()
        self._unrefreshed = True
        items = self._sender.send(map(documents.delete_line, ids), index.is_alias)
        for one, item in zip(ids, items, strict=True):
            if item.error_type is not None:
                raise UsageError(f"{self._location.url}: {one} can't be deleted: {item.reason}")
        return sum(item.status == 200 for item in items)

    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        schema = self.schema()
        if schema is None:
            return
        if with_embeddings and self.capabilities.vectors == "none":
            raise UsageError(
                f"{self._location.url}: a server before 9.2 gives no vectors back from an index that was made"
                " with store_vectors=false"
            )
        self._refresh()
        vectors = [name for name in mapping.VECTORS if model_of(schema, name.partition("_")[0])]
        with self._location.errors():
            view = self._client.open_point_in_time(index=self._name, keep_alive=SCAN_KEEP_ALIVE)["id"]
            after: list[Any] | None = None
            try:
                while True:
                    page = self._client.search(
                        pit={"id": view, "keep_alive": SCAN_KEEP_ALIVE},
                        size=SCAN_ROWS,
                        query=None if source is None else {"term": {"source": source}},
                        sort=["_shard_doc"],
                        search_after=after,
                        track_total_hits=False,
                        source_excludes=vectors or None,
                        fields=[{"field": name} for name in vectors] if with_embeddings else None,
                    )
                    view, hits = page["pit_id"], page["hits"]["hits"]
                    for hit in hits:
                        yield documents.row_of(hit, schema.fields, with_embeddings)
                    if len(hits) < SCAN_ROWS:
                        return
                    after = hits[-1]["sort"]
            except elasticsearch.NotFoundError as error:
                raise DatabaseUnavailableError(
                    f"{self._location.url}: a scan was cut off: the server restarted, or it paused for longer"
                    f" than {SCAN_KEEP_ALIVE} ({reason_of(error.body)})"
                ) from None
            finally:
                # Where it can't be closed, the server does so itself in a while.
                with suppress(elasticsearch.ApiError, elastic_transport.TransportError):
                    self._client.close_point_in_time(id=view)

    def count(self) -> int:
        if self._find() is None:
            return 0
        self._refresh()
        with self._location.errors():
            return int(self._client.count(index=self._name)["count"])

    def search(self, kind: Kind, vector: Vector, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        schema = self.schema()
        length = float(np.linalg.norm(vector))
        if schema is None or model_of(schema, kind) is None or length == 0.0:
            return []
        request = query.nearest(kind, vector / length, k, filters)
        hits = query.hits(self._ask(request), kind, query.cosine_of)
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    def search_words(self, words: str, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        if self.schema() is None:
            return []
        return query.hits(self._ask(query.shared_words(words, k, filters)), "text")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._unrefreshed:  # by this process, or by one that was killed before it published
            self._refresh()
        with self._location.errors():
            answer: dict[str, Any] = self._client.search(index=self._name, **request).body
        return answer

    def prepare(self) -> None:
        index = self._find()
        if index is not None and index.loading:
            self._generations.begin_load(index)

    def publish(self, expected: int | None = None) -> None:
        index = self._find()
        if index is None:
            raise UsageError(f"{self._location.url}: no index there to publish")
        if index.loading:
            self._generations.end_load(index)
        count = self.count()
        if expected is not None and count < expected:
            raise EngineError(
                f"{self._location.url}: {index.index} holds {count} records, {expected} were acknowledged:"
                " records are missing, so nothing was published"
            )
        if not index.loading:
            return
        if index.name == loading_alias(index.index):
            if not count:
                return  # Nothing came of the load: the old generation stays what is read.
            self._generations.put_in_place(index)
        meta = {key: value for key, value in index.mapping["_meta"].items() if key != mapping.LOAD_KEY}
        self._generations.remember(index, meta)
        self._generations.drop_old(index)
        self._name = self._location.index
        self._sender.aim(self._name)

    def size_bytes(self) -> int | None:
        index = self._find()
        if index is None:
            return None
        with self._location.errors():
            self._client.indices.flush(index=index.index)
            told = self._client.indices.stats(index=index.index, metric="store").body
        return int(told["_all"]["primaries"]["store"]["size_in_bytes"])

    def drop(self) -> None:
        for index in self._generations.numbered():
            with self._location.errors():
                self._client.indices.delete(index=index.index, ignore_unavailable=True)

    def close(self) -> None:
        self._sender.close()
        self._client.close()

    def _find(self) -> Index | None:
        """The index that is meant; None where there is none."""
        return self._generations.find(self._name)

    def _writable(self) -> tuple[Index, IndexSchema]:
        if self._written_to is None or self._schema is None:
            index = self._find()
            if index is None:
                raise IndexLostError(f"{self._location.url}: no index there to write to")
            self._written_to = index
            self._schema = mapping.stored_schema(index.mapping, self._location.url)
        return self._written_to, self._schema

    def _base64(self) -> bool:
        """Whether the server takes vectors as base64."""
        if self._takes_base64 is None:
            with self._location.errors():
                self._takes_base64 = server_version(self._client) >= BASE64_VECTORS
        return self._takes_base64

    def _check_same(self) -> None:
        """Raise where the index that was written to is no longer behind the name."""
        with self._location.errors():
            try:
                found = self._client.indices.get_settings(index=self._name, name="index.uuid").body
            except elasticsearch.NotFoundError:
                found = {}
        uuids = {entry["settings"]["index"]["uuid"] for entry in found.values()}
        if self._written_to is None or uuids != {self._written_to.uuid}:
            raise IndexLostError(f"{self._location.url}: the index was deleted or replaced during the run")

    def _refresh(self) -> None:
        """Make visible what any process has written so far."""
        with self._location.errors():
            self._client.indices.refresh(index=self._name)
        self._unrefreshed = False


def _outcome(item: Item) -> str | None:
    if item.status in (200, 201, 409):
        return None
    return f"{item.error_type}: {item.reason} (status {item.status})"
