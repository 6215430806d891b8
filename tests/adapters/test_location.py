"""URLs of an Elasticsearch index."""

from __future__ import annotations

import pytest

from adapters.elasticsearch.location import Location, reason_of
from engine.errors import UsageError


@pytest.mark.parametrize(
    ("url", "hosts", "index"),
    [
        ("elasticsearch://db:9201/chunks", ["http://db:9201"], "chunks"),
        ("elasticsearch://db/chunks", ["http://db:9200"], "chunks"),
        ("elasticsearch+https://a:1,b.example.org/x-1", ["https://a:1", "https://b.example.org:9200"], "x-1"),
        ("elasticsearch://[::1]:9200/chunks", ["http://[::1]:9200"], "chunks"),
    ],
)
def test_a_url_names_hosts_and_an_index(url: str, hosts: list[str], index: str) -> None:
    location = Location.parse(url)
    assert list(location.hosts) == hosts
    assert location.index == index
    location.client().close()


@pytest.mark.parametrize(
    "url",
    [
        "elasticsearch://db:9200",
        "elasticsearch://db:9200/",
        "elasticsearch:///chunks",
        "elasticsearch://db:99999/chunks",
        "elasticsearch://db:x/chunks",
        "elasticsearch://a,,b/chunks",
        "elasticsearch://db/Chunks",
        "elasticsearch://db/_all",
        "elasticsearch://db/a,b",
        "elasticsearch://db/a*",
        "elasticsearch://db/a/b",
        "elasticsearch://db/.hidden",
        "elasticsearch://db/" + "x" * 241,
    ],
)
def test_anything_else_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(UsageError, match="elasticsearch://") as caught:
        Location.parse(url)
    assert "\n" not in str(caught.value)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location.parse("elasticsearch://db/chunks")
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "elastic")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "s3cret")
    with location.client() as client:
        assert client._headers["authorization"].startswith("Basic ")
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "key")
    with location.client() as client:
        assert client._headers["authorization"] == "ApiKey key"
    assert "s3cret" not in repr(location)


def test_an_authority_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELASTICSEARCH_CA_CERTS", "/nowhere/ca.pem")
    with pytest.raises(UsageError, match=r"/nowhere/ca\.pem"):
        Location.parse("elasticsearch+https://db/chunks").client()


def test_a_reason_is_the_innermost_and_one_line() -> None:
    body = {"error": {"type": "a", "reason": "all failed", "root_cause": [{"type": "b", "reason": "x\ny"}]}}
    assert reason_of(body) == "b: x y"
    assert reason_of("<html>\n502</html>") == "<html> 502</html>"
    assert reason_of(None) == "None"
