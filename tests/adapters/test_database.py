"""What a database declares: its options in the URL's query, its help, and how a third party adds one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import adapters
from adapters import memory
from adapters.base import AdapterOptions, Capabilities
from adapters.database import HELP_COLUMNS, Database, Option
from engine.errors import UsageError
from engine.records import index_url
from engine.registry import Registry

TOY = Database(
    form="toy://NAME",
    about="a toy",
    install="pip install toy",
    capabilities=Capabilities(words=True),
    connect=memory.connect,
    options=(
        Option("kind", "which one", ("a", "b"), "a"),
        Option("fast", "no waiting", bool),
        Option("shards", "how many", int, 3),
        Option("region", "where"),
    ),
)


def test_options_have_their_values_or_their_defaults() -> None:
    defaults = {"kind": "a", "fast": None, "shards": 3, "region": None}
    assert TOY.parse("toy://x", "") == defaults
    given = TOY.parse("toy://x", "kind=b&fast=true&shards=12&region=far%20%26%20away")
    assert given == {"kind": "b", "fast": True, "shards": 12, "region": "far & away"}
    assert TOY.parse("toy://x", "fast=false") == {**defaults, "fast": False}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("colour=red", "unknown option 'colour'; accepted are kind, fast, shards, region"),
        ("kind=c", "option kind='c' is not accepted; accepted are a, b"),
        ("kind=", "option kind='' is not accepted; accepted are a, b"),
        ("fast=1", "option fast='1' is not accepted; accepted are true, false"),
        ("shards=-1", "option shards='-1' is not accepted; accepted are a whole number"),
        ("region=", "option region='' is not accepted; accepted are a text that is not empty"),
        ("kind=a&kind=b", "option kind is given twice"),
        ("kind", "after ? there must be NAME=VALUE, several by &"),
        ("kind=a&&fast=true", "after ? there must be NAME=VALUE, several by &"),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_accepted(query: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        TOY.parse("toy://x", query)
    assert str(caught.value) == f"--adapter toy://x: {told}"


def test_a_secret_in_the_query_is_not_repeated() -> None:
    for url in ("elasticsearch://host/x?password=geheim", "lancedb://x?api_key=geheim", "toy://?x=geheim"):
        with pytest.raises(UsageError) as caught:
            adapters.check(url)
        assert "geheim" not in str(caught.value)


def test_the_query_names_no_index() -> None:
    assert index_url("lancedb://dir?index=exact") == index_url("lancedb://dir") == "lancedb://dir"


@pytest.mark.parametrize("scheme", [*adapters.REGISTRY.names(), "lancedb://"])
def test_every_database_has_a_help_text_that_fits_a_terminal(scheme: str) -> None:
    text = adapters.help_text(scheme)
    database: Database = adapters.REGISTRY.get(scheme.removesuffix("://"))
    for option in database.options:
        assert f"{option.name}=" in text
    assert max(map(len, text.splitlines())) <= HELP_COLUMNS
    assert database.install in text


def test_what_a_database_cannot_is_refused_with_those_that_can() -> None:
    assert adapters.lacking("words") == (
        "this database can't search by words; those that can: elasticsearch://, elasticsearch+https://"
    )
    told = "--adapter toy://x: --exact: this database can't compare all vectors; those that can: lancedb://"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UsageError) as caught:
        patch.setattr(adapters, "REGISTRY", _with_toy())
        adapters.connect("toy://x?fast=true", AdapterOptions(exact=True))
    assert str(caught.value) == told


def test_a_third_party_adds_a_database_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "REGISTRY", _with_toy())
    assert adapters.schemes()[-1] == "toy://"
    with pytest.raises(UsageError, match="option kind='z' is not accepted; accepted are a, b"):
        adapters.check("toy://x?kind=z")
    assert adapters.connect("toy://x?kind=b").identity() is None


def _with_toy() -> Registry:
    registry = Registry("adapters", {"lancedb": "adapters.lancedb:DATABASE"})
    point = EntryPoint("toy", f"{__name__}:TOY", "vector_streaming_engine.adapters")
    vars(registry)["_entry_points"] = {"toy": point}
    return registry


def test_what_is_declared_is_read_without_any_client_library(tmp_path: Path) -> None:
    code = (
        "import sys, adapters\n"
        "for name in adapters.REGISTRY.names(): adapters.help_text(name)\n"
        "adapters.check('lancedb://x?index=exact'); adapters.check('elasticsearch://host/x?index=hnsw')\n"
        "print({'lancedb', 'pyarrow', 'elasticsearch', 'numpy.ma'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
