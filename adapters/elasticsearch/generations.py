"""The indices behind one name: which is read, which is loaded, and how one replaces the other.

The name in the URL is an alias over `NAME-00000N`. An index that is being loaded is marked in its mapping's
`_meta`, together with the settings to restore. One that is loaded beside another is written to through
an alias of its own, `NAME-00000N-loading`, so that a write never creates an index by accident.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import elasticsearch

from adapters.elasticsearch import INDEX_KINDS, mapping
from adapters.elasticsearch.location import Location
from engine.errors import DatabaseUnavailableError, UsageError
from engine.records import IndexSchema

#: Generations that stay: the one that is read and the one before it.
KEPT = 2

#: Settings while an index is loaded: nothing is made searchable or copied to replicas before the end.
LOAD_SETTINGS: dict[str, str | int] = {"refresh_interval": "-1", "number_of_replicas": 0}


@dataclass(frozen=True, slots=True)
class Index:
    """An index as the server describes it; `name` is the name that requests use."""

    index: str
    name: str
    uuid: str
    mapping: dict[str, Any]
    settings: dict[str, Any]
    aliases: frozenset[str]

    @property
    def is_alias(self) -> bool:
        """Whether `name` is an alias of it."""
        return self.name != self.index

    @property
    def loading(self) -> bool:
        """Whether its load was started and not published."""
        return mapping.LOAD_KEY in self.mapping.get("_meta", {})


class Generations:
    """The indices of one URL's name. Each method asks the server anew."""

    def __init__(self, client: elasticsearch.Elasticsearch, location: Location) -> None:
        self._client = client
        self._location = location
        self._numbered = re.compile(re.escape(location.index) + r"-(\d{6})")

    def find(self, name: str) -> Index | None:
        """The index behind an alias, or of that name; None where there is none."""
        with self._location.errors():
            try:
                found = self._client.indices.get(index=name).body
            except elasticsearch.NotFoundError:
                return None
        if len(found) != 1:
            raise UsageError(
                f"{self._location.url}: an alias over {len(found)} indices; name one over one index"
            )
        ((index, entry),) = found.items()
        return _index(index, entry, name)

    def numbered(self) -> list[Index]:
        """All generations, the newest last."""
        with self._location.errors():
            found = self._client.indices.get(
                index=f"{self._location.index}-*", allow_no_indices=True, expand_wildcards="all"
            ).body
        mine = [name for name in found if self._numbered.fullmatch(name)]
        return [_index(name, found[name], loading_alias(name)) for name in sorted(mine)]

    def unfinished(self, uuid: str) -> Index | None:
        """The index of that identity where its load was begun and not published."""
        for index in self.numbered():
            if index.uuid == uuid and index.loading:
                shown = self._location.index in index.aliases
                return self.find(self._location.index if shown else index.name)
        return None

    def first(self, schema: IndexSchema, kind: str, store_vectors: bool | None) -> None:
        """Make the first generation, read from the start; no error where another process was faster."""
        self._create(f"{self._location.index}-000001", self._location.index, schema, kind, store_vectors)

    def next(self, schema: IndexSchema, kind: str, store_vectors: bool | None) -> Index:
        """Make an empty generation beside the others."""
        last = max((int(index.index[-6:]) for index in self.numbered()), default=0)
        index = f"{self._location.index}-{last + 1:06}"
        if not self._create(index, loading_alias(index), schema, kind, store_vectors):
            raise DatabaseUnavailableError(f"{self._location.url}: another run has just begun {index}")
        made = self.find(loading_alias(index))
        if made is None:
            raise UsageError(f"{self._location.url}: {index} was deleted while it was made")
        return made

    def _create(self, index: str, alias: str, schema: IndexSchema, kind: str, store: bool | None) -> bool:
        """Whether the index is new. A server before 9.2 doesn't know the setting that leaves vectors out."""
        mappings = mapping.mappings(schema, kind)
        mappings["_meta"][mapping.LOAD_KEY] = {}
        body: dict[str, Any] = {
            "mappings": mappings,
            "aliases": {alias: {}},
            "settings": mapping.settings(schema, store),
        }
        try:
            with self._location.errors():
                try:
                    self._client.indices.create(index=index, **body)
                except elasticsearch.BadRequestError as error:
                    if mapping.LEAVE_VECTORS_OUT not in str(error):
                        raise
                    if store is False:  # such a server has them nowhere else
                        mappings["_source"] = {"excludes": list(mapping.VECTORS)}
                    self._client.indices.create(index=index, **{**body, "settings": {}})
        except UsageError as error:
            if "resource_already_exists_exception" in str(error):
                return False
            if f"options type [{kind}]" in str(error):
                raise UsageError(
                    f"{self._location.url}: option index={kind}: this server doesn't know it; it takes"
                    f" {', '.join(one for one in INDEX_KINDS if one != kind)}"
                ) from None
            raise
        return True

    def begin_load(self, index: Index) -> None:
        """Set the load's settings; the present ones are stored in the index first, unless that is done."""
        meta = index.mapping["_meta"]
        if "restore" not in meta[mapping.LOAD_KEY]:
            restore = {name: index.settings.get(name) for name in LOAD_SETTINGS if name in index.settings}
            if restore == {name: str(value) for name, value in LOAD_SETTINGS.items()}:
                # Another task started the load, and a third one, which added a model to `_meta` at that
                # moment, overwrote the stored settings: the load's own settings must not stay.
                restore = {}
            # The server's own default is written out by some servers and left out by others.
            self.remember(index, {**meta, mapping.LOAD_KEY: {"restore": restore}})
        for name, value in LOAD_SETTINGS.items():
            self._set(index, name, value)

    def end_load(self, index: Index) -> None:
        """Settings as they were before the load."""
        restore = index.mapping["_meta"][mapping.LOAD_KEY].get("restore", {})
        for name in LOAD_SETTINGS:
            self._set(index, name, restore.get(name))

    def _set(self, index: Index, name: str, value: str | int | None) -> None:
        with self._location.errors():
            try:
                self._client.indices.put_settings(index=index.index, settings={f"index.{name}": value})
            except elasticsearch.BadRequestError:
                return  # Serverless manages these settings itself and refuses them.

    def remember(self, index: Index, meta: dict[str, Any]) -> None:
        """Replace the index's `_meta`."""
        with self._location.errors():
            self._client.indices.put_mapping(index=index.index, meta=meta)

    def put_in_place(self, index: Index) -> None:
        """Point the name at this index, in one request, so that there is no moment without an index."""
        name = self._location.index
        before = self.find(name)
        actions: list[dict[str, Any]] = [{"add": {"index": index.index, "alias": name}}]
        if before is not None and before.index != index.index:
            actions.append({"remove": {"index": before.index, "alias": name}})
        actions += [{"remove": {"index": index.index, "alias": a}} for a in index.aliases if a != name]
        with self._location.errors():
            self._client.indices.update_aliases(actions=actions)

    def drop_old(self, newest: Index) -> None:
        """Delete what is older than the last two; only what this engine made and nothing else points to."""
        older = [index for index in self.numbered() if index.index < newest.index]
        for index in older[: len(older) - (KEPT - 1)]:
            named = index.aliases - {index.name}
            if mapping.META_KEY in index.mapping.get("_meta", {}) and not named:
                with self._location.errors():
                    self._client.indices.delete(index=index.index, ignore_unavailable=True)


def loading_alias(index: str) -> str:
    """The alias through which a generation is written to before it is in place."""
    return f"{index}-loading"


def _index(index: str, entry: dict[str, Any], name: str) -> Index:
    settings = entry["settings"]["index"]
    return Index(
        index=index,
        name=name,
        uuid=settings["uuid"],
        mapping=entry.get("mappings", {}),
        settings=settings,
        aliases=frozenset(entry.get("aliases", {})),
    )
