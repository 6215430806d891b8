"""Fixtures that several packages of tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import elasticsearch

pytest.register_assert_rewrite("tests.adapters.contract")


@pytest.fixture(scope="session")
def elasticsearch_url() -> Iterator[str]:
    """`elasticsearch://host:port` of a real 8.19 server, or of what $ELASTICSEARCH_URL names."""
    with elasticsearch("8.19.21", "ELASTICSEARCH_URL") as url:
        yield url


@pytest.fixture(scope="session")
def elasticsearch_9_url() -> Iterator[str]:
    """The same of a real 9.5 server, or of what $ELASTICSEARCH_9_URL names."""
    with elasticsearch("9.5.3", "ELASTICSEARCH_9_URL") as url:
        yield url
