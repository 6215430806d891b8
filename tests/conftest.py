"""Fixtures that several packages of tests need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.servers import elasticsearch

pytest.register_assert_rewrite("tests.adapters.contract")

#: Fixtures that start a server for the session, and the variable that names a running one instead.
SERVERS = {"elasticsearch_url": "ELASTICSEARCH_URL", "elasticsearch_9_url": "ELASTICSEARCH_9_URL"}

# Examples are not judged by their time: other tests run beside them.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests of a server that has to be started run in one process, so that it is started once."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        used = {*item.fixturenames, *(value for value in parameters if isinstance(value, str))}
        for fixture, variable in SERVERS.items():
            if fixture in used and not os.environ.get(variable):
                item.add_marker(pytest.mark.xdist_group(fixture))


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
