"""The package of `docs/extending.md`, installed where only these tests and their processes look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import adapters
from engine import chunkers, parsers, sources
from engine.models import backends
from tests.extending import page


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is installed in."""
    folder = tmp_path_factory.mktemp("site")
    page.install(folder)
    return folder


@pytest.fixture(autouse=True)
def _installed(parts: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(parts)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(parts), os.environ.get("PYTHONPATH", "")]))
    _forget()
    yield
    _forget()


def _forget() -> None:
    """Let every registry look for entry points again."""
    for registry in (
        adapters.REGISTRY,
        backends.REGISTRY,
        chunkers.CHUNKERS,
        parsers.PARSERS,
        sources.REGISTRY,
    ):
        registry.__dict__.pop("_entry_points", None)
    for known in (parsers._parsers, parsers._detector, parsers._parser_of, sources.source_for, backends.get):
        known.cache_clear()
