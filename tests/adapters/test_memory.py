from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import adapters
from adapters import memory
from engine.errors import UsageError
from engine.records import ChunkerIdentity, IndexSchema
from tests.adapters.contract import AdapterContract


class TestMemory(AdapterContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        name = uuid.uuid4().hex
        yield f"memory://{name}"
        memory.drop(name)

    def drop(self, url: str) -> None:
        memory.drop(url.partition("://")[2])

    def test_what_somebody_else_made_is_refused(self) -> None:  # type: ignore[override]
        """Nobody else writes into this process."""


def test_a_name_is_needed() -> None:
    with pytest.raises(UsageError, match="memory://trial"):
        adapters.connect("memory://")


def test_two_names_are_two_indices() -> None:
    first, second = adapters.connect("memory://first"), adapters.connect("memory://second")
    first.ensure_schema(IndexSchema(None, None, ChunkerIdentity.from_key("any")))
    assert first.identity() is not None
    assert second.identity() is None
    memory.drop("first")


@pytest.mark.parametrize("url", ["qdrant://host/index", "lancedb:/dir", "", "memory"])
def test_an_unknown_scheme_is_refused_with_those_known(url: str) -> None:
    with pytest.raises(UsageError, match=r"accepted are lancedb://, elasticsearch://"):
        adapters.connect(url)
