"""Fixtures that several packages of tests need."""

from __future__ import annotations

import re
from collections.abc import Iterator

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.servers import elasticsearch

pytest.register_assert_rewrite("tests.adapters.contract")

#: Parts of the ids of tests that share what is costly to start, a server above all: with pytest-xdist, those
#: of one line run in one process. (Its own marks for that, as of 3.8, do nothing under pytest 9.2.)
TOGETHER = (
    r"TestElasticsearch9|test_elasticsearch_generations.*9\.5|come_from_the_index_where_the_server_can",
    r"test_elasticsearch_secured\.py",
    r"test_elasticsearch_faults\.py(?!.*full_disk)",
    r"test_parity\.py",
    r"tests/hostile/",
    r"test_full_disk\.py.*(run_directory|for_the_database)",
    r"test_full_disk\.py",
    r"test_slurm_fleet\.py(?!.*whose_tasks)",
    r"test_slurm_tasks\.py",
)

# Examples are not judged by their time: other tests run beside them.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Each test by itself to whichever process has room, but for those of one line of `TOGETHER`."""

    def _split_scope(self, nodeid: str) -> str:
        return next((line for line in TOGETHER if re.search(line, nodeid)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """What pytest-xdist asks."""
    return Scheduling(config, log)


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
