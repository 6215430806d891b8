"""The contract on real servers; what a server seldom does is played by a scripted one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import elasticsearch
import numpy as np
import pytest

import adapters
from adapters.elasticsearch.adapter import ElasticsearchAdapter
from engine.errors import DatabaseUnavailableError, UsageError
from engine.records import ModelInfo
from tests.adapters.contract import OPTIONS, DurableContract, adapters_closed, stored, write
from tests.records import make_records, make_schema
from tests.servers import free_port


def client_of(url: str) -> elasticsearch.Elasticsearch:
    """A client of one's own, to act behind the adapter's back."""
    return elasticsearch.Elasticsearch(url.replace("elasticsearch://", "http://").rpartition("/")[0])


def drop(url: str) -> None:
    with client_of(url) as client:
        name = url.rpartition("/")[2]
        found = client.options(ignore_status=404).indices.get(index=f"{name}*")
        for index in list(found.body):
            client.indices.delete(index=index)


class OnRealServer(DurableContract):
    @pytest.fixture
    def server(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def url(self, server: str) -> Iterator[str]:
        url = f"{server}/test-{uuid.uuid4().hex}"
        yield url
        drop(url)

    def drop(self, url: str) -> None:
        drop(url)

    def make_foreign(self, url: str) -> None:
        with client_of(url) as client:
            client.indices.create(index=url.rpartition("/")[2])

    def test_the_name_is_an_alias_over_a_first_generation(self, url: str) -> None:
        with adapters_closed(url) as adapter, client_of(url) as client:
            adapter.ensure_schema(make_schema())
            name = url.rpartition("/")[2]
            assert list(client.indices.get_alias(name=name).body) == [f"{name}-000001"]

    def test_a_scan_whose_view_the_server_has_lost_may_be_made_again(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("adapters.elasticsearch.adapter.SCAN_ROWS", 10)
        with adapters_closed(url) as adapter, client_of(url) as client:
            assert isinstance(adapter, ElasticsearchAdapter)
            adapter.ensure_schema(make_schema())
            records = make_records(25)
            write(adapter, records)
            views: list[str] = []
            opened = adapter._client.open_point_in_time

            def remembered(**how: Any) -> Any:
                answer = opened(**how)
                views.append(answer["id"])
                return answer

            monkeypatch.setattr(adapter._client, "open_point_in_time", remembered)
            scan = adapter.scan(source=records[0].source)
            next(scan)
            client.close_point_in_time(id=views[0])
            with pytest.raises(DatabaseUnavailableError, match=r"a scan was cut off: the server restarted"):
                list(scan)
            assert len(list(adapter.scan(source=records[0].source))) == 25

    def test_a_plain_index_of_this_engine_is_used_as_it_is(self, url: str) -> None:
        with adapters_closed(url) as adapter, client_of(url) as client:
            adapter.ensure_schema(make_schema())
            name = url.rpartition("/")[2]
            mappings = client.indices.get(index=name)[f"{name}-000001"]["mappings"]
            client.indices.delete(index=f"{name}-000001")
            client.indices.create(index=name, mappings=mappings)
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(make_schema())
            write(adapter, make_records(3))
            assert len(stored(adapter)) == 3
            drop(url)
            with pytest.raises(UsageError, match="deleted or replaced"):
                adapter.write(make_records(1), maybe_present=False)
            assert adapter.identity() is None

    def test_vectors_of_any_length_come_back_exactly(self, url: str) -> None:
        model = ModelInfo("text-model", "d" * 64, 16, normalized=False)
        records = [replace(r, embedding=r.embedding * np.float32(7.3)) for r in make_records(20)]
        with adapters_closed(url) as adapter:
            adapter.ensure_schema(replace(make_schema(), text_model=model))
            write(adapter, records)
            rows = stored(adapter)
            for record in records:
                assert np.array_equal(np.asarray(rows[record.id]["text_embedding"]), record.embedding)
            best = adapter.search("text", records[3].embedding, 1)[0]
            assert best.id == records[3].id
            assert best.score == pytest.approx(1.0, abs=1e-5)

    def test_what_somebody_else_wrote_is_scanned_as_far_as_it_goes(self, url: str) -> None:
        with adapters_closed(url) as adapter, client_of(url) as client:
            adapter.ensure_schema(make_schema())
            name = url.rpartition("/")[2]
            client.index(index=name, id="theirs", document={"id": "mine", "source": "/x"})
            client.index(index=name, id="when", document={"mtime": 1_700_000_000_000, "kind": "video"})
            rows = stored(adapter)
            assert rows.keys() == {"theirs", "when"}
            assert (rows["theirs"]["source"], rows["theirs"]["kind"], rows["theirs"]["mtime"]) == (
                "/x",
                None,
                None,
            )
            assert (rows["when"]["mtime"], rows["when"]["text_embedding"]) == (None, None)
            assert adapter.delete(list(rows)) == 2

    def test_whether_vectors_come_back_is_told_before_a_scan(self, url: str) -> None:
        with adapters_closed(f"{url}?store_vectors=false") as adapter:
            adapter.ensure_schema(make_schema())
            write(adapter, make_records(1))
            if adapter.capabilities.vectors == "exact":
                assert stored(adapter)
            else:
                with pytest.raises(UsageError, match="gives no vectors back"):
                    stored(adapter)
                assert len(list(adapter.scan())) == 1

    def test_a_batch_larger_than_one_request_arrives_whole(self, url: str) -> None:
        records = make_records(300)
        with adapters_closed(url, replace(OPTIONS, bulk_bytes=20_000, bulk_concurrency=3)) as adapter:
            adapter.ensure_schema(make_schema())
            write(adapter, records)
            assert set(stored(adapter)) == {record.id for record in records}

    def test_refresh_is_off_while_a_run_writes(self, url: str) -> None:
        with adapters_closed(url) as adapter, client_of(url) as client:
            adapter.ensure_schema(make_schema())
            name = f"{url.rpartition('/')[2]}-000001"
            adapter.prepare()
            assert client.indices.get(index=name)[name]["settings"]["index"]["refresh_interval"] == "-1"
            write(adapter, make_records(3))
            adapter.publish()
            assert "refresh_interval" not in client.indices.get(index=name)[name]["settings"]["index"]
            assert client.count(index=name)["count"] == 3

    def test_a_write_block_is_waited_for(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("adapters.elasticsearch.bulk.PATIENCE_SECONDS", 0.5)
        with adapters_closed(url) as adapter, client_of(url) as client:
            adapter.ensure_schema(make_schema())
            name = url.rpartition("/")[2]
            client.indices.put_settings(index=name, settings={"index.blocks.write": True})
            with pytest.raises(DatabaseUnavailableError, match="blocked by"):
                adapter.write(make_records(2), maybe_present=False)
            client.indices.put_settings(index=name, settings={"index.blocks.write": None})
            write(adapter, make_records(2))
            assert adapter.count() == 2


class TestElasticsearch8(OnRealServer):
    @pytest.fixture
    def server(self, elasticsearch_url: str) -> str:
        return elasticsearch_url


class TestElasticsearch9(OnRealServer):
    @pytest.fixture
    def server(self, elasticsearch_9_url: str) -> str:
        return elasticsearch_9_url


def test_a_server_that_is_not_there_says_how_to_start_one() -> None:
    url = f"elasticsearch://127.0.0.1:{free_port()}/index"
    with pytest.raises(DatabaseUnavailableError, match="scripts/elasticsearch start") as caught:
        adapters.connect(url)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
