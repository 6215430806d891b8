"""Children for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.runtime.process.child import Child

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts children, which are killed when the test is over."""
    started: list[Child] = []

    def begin(target: Callable[..., None], *args: object) -> Child:
        started.append(Child(target.__name__, target, str(tmp_path), *args))
        return started[-1]

    yield begin
    for child in started:
        child.kill()
        child.control.close()
        child.process.close()
