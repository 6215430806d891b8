"""A part that can't be loaded is one line that names it, whoever registered it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import adapters
from adapters.database import Database
from engine import sources
from engine.chunkers.base import Chunker
from engine.errors import UsageError
from engine.models import backends
from engine.records import Chunk, TextSection
from engine.registry import GROUP_PREFIX, Registry


class Whole(Chunker):
    """A chunker that lacks nothing."""

    def chunks(self, section: TextSection) -> Iterator[Chunk]:
        yield from ()


class Abstract(Chunker):
    """A chunker without its method."""


def registry(value: str, kind: str = "chunkers", base: type = Chunker) -> Registry:
    """A registry with one entry point, `mine`."""
    made = Registry(kind, {}, base=base)
    vars(made)["_entry_points"] = {"mine": EntryPoint("mine", value, GROUP_PREFIX + kind)}
    return made


def test_an_entry_point_is_loaded_by_name() -> None:
    assert registry(f"{__name__}:Whole").get("mine") is Whole


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module:X", "No module named 'no_such_module'; install the package that brings it"),
        ("json:no_such_name", "can't be loaded: AttributeError: module 'json' has no attribute"),
        ("this is no reference!", "can't be loaded: AttributeError"),
        ("failing_part:X", "can't be loaded: RuntimeError: first line second line"),
        ("json:dumps", "is not a complete engine.chunkers.base.Chunker"),
        ("json:JSONDecoder", "is not a complete engine.chunkers.base.Chunker"),
        (f"{__name__}:Abstract", "is not a complete engine.chunkers.base.Chunker"),
    ],
)
def test_an_entry_point_that_is_no_part_is_a_usage_error(
    value: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_part.py").write_text("raise RuntimeError('first line\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as refused:
        registry(value).get("mine")
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("mine")


@pytest.mark.parametrize("made", [backends.REGISTRY, sources.REGISTRY])
def test_backends_and_sources_are_checked_as_well(made: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("mine", "json:dumps", GROUP_PREFIX + made.kind)
    monkeypatch.setitem(vars(made), "_entry_points", {"mine": point})
    with pytest.raises(UsageError, match="is not a complete engine"):
        made.get("mine")


def test_a_database_that_cannot_be_loaded_is_in_nobody_elses_way(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = registry("json:dumps", "adapters", Database)
    monkeypatch.setattr(adapters, "REGISTRY", broken)
    assert adapters.packages() == []
    with pytest.raises(UsageError, match=r"mine \(entry point 'json:dumps' in .*\.adapters\) is not a"):
        adapters.check("mine://x")
