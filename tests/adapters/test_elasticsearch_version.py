"""The version is found by whatever way the server leaves open."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import elasticsearch
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig

from adapters.elasticsearch.version import SERVERLESS, UNKNOWN, number, server_version


def answer(given: object) -> Any:
    """A client's call that answers this, or is refused with this status."""

    def call(**_: object) -> object:
        if isinstance(given, int):
            meta = ApiResponseMeta(given, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "127.0.0.1", 9200))
            raise elasticsearch.ApiError("refused", meta, {})
        return SimpleNamespace(body=given)

    return call


def found(nodes: object, root: object) -> tuple[int, int]:
    client: Any = SimpleNamespace(nodes=SimpleNamespace(info=answer(nodes)), info=answer(root))
    return server_version(client)


def test_the_oldest_node_of_a_cluster_counts() -> None:
    nodes = {"nodes": {"a": {"version": "9.5.3"}, "b": {"version": "9.2.11"}, "c": {"version": "9.10.0"}}}
    assert found(nodes, 405) == (9, 2)


@pytest.mark.parametrize("nodes", [{}, 403, 404, 405, 410])
def test_the_root_is_asked_where_the_nodes_are_not_told(nodes: object) -> None:
    assert found(nodes, {"version": {"number": "8.19.21", "build_flavor": "default"}}) == (8, 19)


def test_serverless_is_the_newest_whatever_number_it_gives() -> None:
    assert found(410, {"version": {"number": "8.11.0", "build_flavor": "serverless"}}) == SERVERLESS


def test_a_server_that_does_not_tell_is_taken_for_an_old_one() -> None:
    assert found(403, 405) == UNKNOWN < (1, 0)


@pytest.mark.parametrize(("nodes", "root"), [(503, 405), (403, 503)])
def test_a_server_in_trouble_is_no_old_server(nodes: int, root: int) -> None:
    with pytest.raises(elasticsearch.ApiError):
        found(nodes, root)


def test_a_number_is_read_with_whatever_follows_it() -> None:
    assert number("9.5.0-SNAPSHOT") == (9, 5)
    assert number("8.19.21") == (8, 19)
