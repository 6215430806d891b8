"""Generations of an index, the settings of a load, and indices that a user made, on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import elasticsearch
import pytest

from adapters.elasticsearch import DATABASE, INDEX_KINDS, mapping
from adapters.elasticsearch.generations import Generations, Index
from adapters.elasticsearch.location import Location
from engine.errors import EngineError, SchemaMismatchError, UsageError
from engine.records import ModelInfo
from tests.adapters.contract import adapters_closed, write
from tests.adapters.test_elasticsearch import client_of, drop
from tests.records import make_records, make_schema, make_vectors

#: What another model asks for.
OTHER = replace(make_schema(), text_model=ModelInfo("other", "f" * 64, 16, True))


@pytest.fixture(params=["elasticsearch_url", "elasticsearch_9_url"], ids=["8.19", "9.5"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    url = f"{request.getfixturevalue(request.param)}/test-{uuid.uuid4().hex}"
    yield url
    drop(url)


@pytest.fixture
def client(url: str) -> Iterator[elasticsearch.Elasticsearch]:
    with client_of(url) as client:
        yield client


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def settings_of(client: elasticsearch.Elasticsearch, index: str) -> dict[str, Any]:
    found: dict[str, Any] = client.indices.get(index=index)[index]["settings"]["index"]
    return found


def indices_of(client: elasticsearch.Elasticsearch, url: str) -> dict[str, list[str]]:
    """The generations' numbers and their aliases."""
    name = name_of(url)
    found = client.indices.get(index=f"{name}*").body
    return {index.removeprefix(name): sorted(entry["aliases"]) for index, entry in found.items()}


def load(url: str, n: int = 5) -> str | None:
    """A first generation, published; its identity."""
    with adapters_closed(url) as adapter:
        adapter.ensure_schema(make_schema())
        adapter.prepare()
        write(adapter, make_records(n))
        adapter.publish(n)
        return adapter.identity()


class TestLoad:
    def test_a_new_index_is_loaded_without_refresh_and_copies_and_gets_the_defaults_back(
        self, url: str, client: elasticsearch.Elasticsearch
    ) -> None:
        index = f"{name_of(url)}-000001"
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            adapter.prepare()
            found = settings_of(client, index)
            assert (found["refresh_interval"], found["number_of_replicas"]) == ("-1", "0")
            write(adapter, make_records(3))
        with adapters_closed(url) as adapter:  # as after a kill: what was before is remembered
            adapter.ensure_schema(make_schema())
            adapter.prepare()
            adapter.publish(3)
        found = settings_of(client, index)
        assert "refresh_interval" not in found
        assert found["number_of_replicas"] == "1"

    def test_what_a_template_of_the_user_sets_is_given_back(
        self, url: str, client: elasticsearch.Elasticsearch
    ) -> None:
        name = name_of(url)
        own = {"settings": {"index": {"refresh_interval": "17s", "number_of_replicas": 0}}}
        client.indices.put_index_template(name=name, index_patterns=[f"{name}-*"], template=own)
        try:
            load(url)
            found = settings_of(client, f"{name}-000001")
            assert (found["refresh_interval"], found["number_of_replicas"]) == ("17s", "0")
        finally:
            client.indices.delete_index_template(name=name)

    def test_an_index_in_use_keeps_its_settings(self, url: str, client: elasticsearch.Elasticsearch) -> None:
        load(url)
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            adapter.prepare()
            assert "refresh_interval" not in settings_of(client, f"{name_of(url)}-000001")

    def test_fewer_records_than_were_acknowledged_are_an_error(self, url: str) -> None:
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            write(adapter, make_records(3))
            with pytest.raises(EngineError, match=r"holds 3 records, 4 were acknowledged"):
                adapter.publish(4)
            adapter.publish(2)  # the rest is another run directory's


def test_a_note_of_the_settings_that_got_lost_is_not_made_anew_of_those_of_the_load() -> None:
    """One of many tasks that prepare at once may overwrite the `_meta` of another."""
    client = Mock()
    generations = Generations(client, Location.parse("elasticsearch://127.0.0.1:9/notes"))
    for settings, noted in (
        ({"refresh_interval": "-1", "number_of_replicas": "0"}, {}),
        ({"number_of_replicas": "0"}, {"number_of_replicas": "0"}),
    ):
        meta: dict[str, Any] = {mapping.LOAD_KEY: {}}
        generations.begin_load(
            Index("notes-000001", "notes", "u", {"_meta": meta}, settings, frozenset({"notes"}))
        )
        told = client.indices.put_mapping.call_args.kwargs["meta"]
        assert told == {mapping.LOAD_KEY: {"restore": noted}}


class TestGenerations:
    def test_search_sees_the_old_one_until_the_new_one_is_published(
        self, url: str, client: elasticsearch.Elasticsearch
    ) -> None:
        before = load(url, 5)
        name = name_of(url)
        query = make_vectors(1)[0]
        with adapters_closed(url) as adapter, adapters_closed(url) as reader:
            assert adapter.begin_generation(OTHER)
            assert adapter.schema() == OTHER
            assert (adapter.count(), reader.count(), reader.identity()) == (0, 5, before)
            adapter.prepare()
            write(adapter, make_records(8, seed=1))
            assert adapter.delete([make_records(8, seed=1)[0].id]) == 1
            assert (adapter.count(), len(reader.search("text", query, 20))) == (7, 5)
            assert indices_of(client, url) == {"-000001": [name], "-000002": [f"{name}-000002-loading"]}
            assert settings_of(client, f"{name}-000002")["number_of_replicas"] == "0"
            adapter.publish(7)
            assert indices_of(client, url) == {"-000001": [], "-000002": [name]}
            assert settings_of(client, f"{name}-000002")["number_of_replicas"] == "1"
            assert len(reader.search("text", query, 20)) == 7
            assert reader.schema() == OTHER
            assert adapter.identity() == reader.identity() != before
            write(adapter, make_records(1, seed=2))

    def test_a_load_that_was_interrupted_is_found_again_by_its_identity(self, url: str) -> None:
        before = load(url)
        with adapters_closed(url) as adapter:
            assert not adapter.resume(str(before))
            adapter.begin_generation(OTHER)
            write(adapter, make_records(3, seed=1))
            loading = str(adapter.identity())
        with adapters_closed(url) as adapter:
            assert adapter.identity() == before
            assert adapter.resume(loading)
            assert (adapter.identity(), adapter.count()) == (loading, 3)
            adapter.ensure_schema(OTHER)
            write(adapter, make_records(4, seed=1), maybe_present=True)
            adapter.publish(4)
            assert not adapter.resume(loading)
        with adapters_closed(url) as adapter:
            assert (adapter.identity(), adapter.count()) == (loading, 4)

    def test_a_first_load_that_was_interrupted_is_resumed_and_not_begun_anew(self, url: str) -> None:
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            identity = str(adapter.identity())
        with adapters_closed(url) as adapter:
            assert adapter.resume(identity)
            adapter.ensure_schema(make_schema())
            write(adapter, make_records(2))
            adapter.publish(2)
            assert adapter.identity() == identity

    def test_the_last_two_are_kept(self, url: str, client: elasticsearch.Elasticsearch) -> None:
        load(url)
        client.indices.create(index=f"{name_of(url)}-0000001")  # not one of ours
        for seed in range(3):
            with adapters_closed(url) as adapter:
                adapter.begin_generation(make_schema())
                write(adapter, make_records(2, seed=seed))
                adapter.publish(2)
        assert sorted(indices_of(client, url)) == ["-0000001", "-000003", "-000004"]

    def test_one_that_came_to_nothing_takes_no_place(self, url: str) -> None:
        before = load(url)
        with adapters_closed(url) as adapter:
            adapter.begin_generation(OTHER)
            adapter.publish(0)
        with adapters_closed(url) as adapter:
            assert adapter.identity() == before

    def test_one_that_lacks_records_takes_no_place(self, url: str) -> None:
        before = load(url)
        with adapters_closed(url) as adapter:
            adapter.begin_generation(OTHER)
            write(adapter, make_records(2))
            with pytest.raises(EngineError, match="nothing was published"):
                adapter.publish(3)
        with adapters_closed(url) as adapter:
            assert adapter.identity() == before

    def test_one_deleted_while_it_is_loaded_is_not_made_again_by_a_write(
        self, url: str, client: elasticsearch.Elasticsearch
    ) -> None:
        load(url)
        with adapters_closed(url) as adapter:
            adapter.begin_generation(OTHER)
            client.indices.delete(index=f"{name_of(url)}-000002")
            with pytest.raises(UsageError):
                adapter.write(make_records(1), maybe_present=False)
        assert sorted(indices_of(client, url)) == ["-000001"]

    def test_an_index_that_is_no_alias_can_not_be_replaced(
        self, url: str, client: elasticsearch.Elasticsearch
    ) -> None:
        client.indices.create(index=name_of(url), mappings=mapping.mappings(make_schema(), "hnsw"))
        with adapters_closed(url) as adapter, pytest.raises(UsageError, match="not an alias"):
            adapter.begin_generation(OTHER)

    def test_where_there_is_none_yet_nothing_is_begun(self, url: str) -> None:
        with adapters_closed(url) as adapter:
            assert not adapter.begin_generation(OTHER)
            assert adapter.identity() is None


class TestIndexOfTheUser:
    def test_one_that_fits_is_used_as_it_is(self, url: str, client: elasticsearch.Elasticsearch) -> None:
        schema = make_schema(fields=("tenant",))
        made = mapping.mappings(schema, "hnsw")
        properties = {**made["properties"], "note_of_mine": {"type": "text"}}
        properties["text_embedding"] = {**properties["text_embedding"], "similarity": "cosine"}
        name = name_of(url)
        client.indices.create(index=name, mappings={"properties": properties, "_meta": {"owner": "me"}})
        with adapters_closed(url) as adapter:
            found = adapter.schema()
            assert found is not None
            assert found.text_model is None
            adapter.ensure_schema(schema)
            adapter.prepare()
            write(adapter, make_records(3))
            adapter.publish(3)
            assert adapter.schema() == schema
            assert adapter.search("text", make_vectors(1)[0], 1)[0].score == pytest.approx(1, abs=1e-5)
        after = client.indices.get(index=name)[name]["mappings"]
        assert after["_meta"]["owner"] == "me"
        assert after["properties"]["text_embedding"]["index_options"]["type"] == "hnsw"

    @pytest.mark.parametrize(
        ("field", "other", "told"),
        [
            ("page", None, "page is missing (integer)"),
            ("page", {"type": "text"}, "page has type text, not integer"),
            ("source", {"properties": {"x": {"type": "text"}}}, "source has type object, not keyword"),
            ("text_embedding", {"type": "dense_vector", "dims": 8}, "text_embedding has dims 8, not 16"),
            (
                "text_embedding",
                {"type": "dense_vector", "dims": 16, "similarity": "l2_norm"},
                "text_embedding has similarity l2_norm, not dot_product",
            ),
            (
                "text_embedding",
                {"type": "dense_vector", "dims": 16, "index": False},
                "text_embedding is not indexed",
            ),
        ],
    )
    def test_what_does_not_fit_is_listed(
        self, url: str, client: elasticsearch.Elasticsearch, field: str, other: Any, told: str
    ) -> None:
        properties = mapping.mappings(make_schema(), "hnsw")["properties"] | {field: other}
        properties = {name: entry for name, entry in properties.items() if entry is not None}
        properties["size"] = {"type": "integer"}
        client.indices.create(index=name_of(url), mappings={"properties": properties})
        with adapters_closed(url) as adapter:
            with pytest.raises(SchemaMismatchError) as caught:
                adapter.ensure_schema(make_schema())
            assert told in str(caught.value)
            assert "size has type integer, not long" in str(caught.value)
            assert "\n" not in str(caught.value)
        after = client.indices.get(index=name_of(url))[name_of(url)]["mappings"]
        assert "_meta" not in after


class TestOptions:
    @pytest.mark.parametrize("kind", ["hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw"])
    def test_each_kind_of_vector_index_finds_the_nearest(
        self, url: str, client: elasticsearch.Elasticsearch, kind: str
    ) -> None:
        records = make_records(40, dim=64)
        with adapters_closed(f"{url}?index={kind}") as adapter:
            adapter.ensure_schema(make_schema(64))
            write(adapter, records)
            assert adapter.search("text", records[7].embedding, 1)[0].id == records[7].id
        found = client.indices.get(index=name_of(url))[f"{name_of(url)}-000001"]["mappings"]["properties"]
        assert found["text_embedding"]["index_options"]["type"] == kind
        assert found["image_embedding"]["index_options"]["type"] == kind

    def test_a_kind_that_the_server_lacks_is_refused_with_those_it_takes(
        self, request: pytest.FixtureRequest
    ) -> None:
        url = f"{request.getfixturevalue('elasticsearch_url')}/test-{uuid.uuid4().hex}"
        with adapters_closed(f"{url}?index=bbq_disk") as adapter:
            with pytest.raises(
                UsageError, match="bbq_disk: this server doesn't know it; it takes int8_hnsw,"
            ):
                adapter.ensure_schema(make_schema(64))
            assert adapter.identity() is None

    def test_a_size_that_the_kind_can_not_hold_is_refused(self, url: str) -> None:
        with (
            adapters_closed(f"{url}?index=bbq_hnsw") as adapter,
            pytest.raises(UsageError, match="fewer than 64"),
        ):
            adapter.ensure_schema(make_schema(16))

    def test_options_that_an_index_was_not_made_with_are_refused(self, url: str) -> None:
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
        other, told = f"{url}?index=hnsw", r"index=hnsw: the index has int8_hnsw; .*--full"
        with adapters_closed(other) as adapter, pytest.raises(UsageError, match=told):
            adapter.ensure_schema(make_schema())
        with adapters_closed(f"{url}?index=int8_hnsw") as adapter:
            adapter.ensure_schema(make_schema())


def test_vectors_that_are_not_stored_come_from_the_index_where_the_server_can(
    elasticsearch_url: str, elasticsearch_9_url: str
) -> None:
    records = make_records(20)
    for server, gives in ((elasticsearch_url, False), (elasticsearch_9_url, True)):
        url = f"{server}/test-{uuid.uuid4().hex}"
        try:
            with (
                adapters_closed(f"{url}?store_vectors=false") as adapter,
                client_of(url) as client,
            ):
                adapter.ensure_schema(make_schema())
                write(adapter, records)
                assert adapter.search("text", records[3].embedding, 1)[0].id == records[3].id
                assert len(list(adapter.scan())) == 20
                source = client.search(index=name_of(url))["hits"]["hits"][0]["_source"]
                assert "text_embedding" not in source
                if gives:
                    rows = {str(row["id"]): row for row in adapter.scan(with_embeddings=True)}
                    for record in records:
                        assert (rows[record.id]["text_embedding"] == record.embedding).all()
                else:
                    with pytest.raises(UsageError, match="store_vectors=false"):
                        next(adapter.scan(with_embeddings=True))
        finally:
            drop(url)


def test_the_default_is_a_kind_that_every_server_takes() -> None:
    assert INDEX_KINDS[0] == "int8_hnsw"
    assert DATABASE.install.startswith("pip install 'elasticsearch>=8.19,<9'")
