"""An index and models that the tests of the Python interface share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import engine
from adapters import memory


@pytest.fixture
def url() -> Iterator[str]:
    """An index in this process."""
    name = uuid.uuid4().hex
    yield f"memory://{name}"
    memory.drop(name)


@pytest.fixture
def model() -> engine.EmbeddingModel:
    return engine.EmbeddingModel.from_pretrained("stand-in:16", "stand-in:8")
