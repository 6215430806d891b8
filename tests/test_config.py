"""The configuration is made in code, checked where it is made, and comes back from what is stored of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.cli.options import parse
from engine.config import (
    LEAST_PARSER_MEMORY,
    Config,
    CorpusConfig,
    DatabaseConfig,
    MemoryConfig,
    ModelConfig,
    ParsingConfig,
    RunConfig,
    TaskConfig,
)
from engine.errors import UsageError


def test_a_configuration_made_in_code_has_defaults_and_a_run_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = CorpusConfig(("/data",))
    config = Config(corpus)
    assert config.run_dir.parent == tmp_path / "runs"
    assert config.run_dir == parse(["/data"]).run_dir
    assert Config(corpus, task=TaskConfig((1, 3))).run_dir == config.run_dir / "shards" / "1-of-3"
    assert Config(corpus, run_dir=tmp_path / "here").run_dir == tmp_path / "here"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryConfig(workers=0), "--workers 0: give a whole number of at least 1"),
        (lambda: ParsingConfig(chunk_size=0), "--chunk-size 0: give a whole number of at least 1"),
        (lambda: ParsingConfig(chunk_overlap=-1), "--chunk-overlap -1: give a whole number of at least 0"),
        (
            lambda: MemoryConfig(parser_memory=5),
            f"--parser-memory 5: give a whole number of at least {LEAST_PARSER_MEMORY}",
        ),
        (lambda: RunConfig(grace=0.0), "--grace 0.0: give a number of seconds above 0"),
        (lambda: ParsingConfig(file_timeout=float("nan")), "--file-timeout nan: give a number of seconds"),
        (lambda: ModelConfig(device="gpu"), "--device gpu: give auto, cpu, cuda, cuda:N or mps, or several"),
        (lambda: DatabaseConfig(fields=(("x-y", "z"),)), "--field x-y=z: give NAME=VALUE"),
    ],
)
def test_a_value_is_checked_where_it_is_made(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_values_are_changed_by_their_names_in_whatever_group_they_are(tmp_path: Path) -> None:
    config = Config().changed(inputs=("/a",), workers=3, run_dir=tmp_path, shard=(1, 2))
    assert config == Config(
        CorpusConfig(("/a",)), memory=MemoryConfig(3), task=TaskConfig((1, 2)), run_dir=tmp_path
    )
    with pytest.raises(TypeError, match="colour"):
        config.changed(colour="red")
    with pytest.raises(UsageError, match="--workers 0"):
        config.changed(workers=0)


def test_the_configuration_is_json_whatever_the_names_are() -> None:
    config = parse(["caf\udce9", "--field", "team=blue", "--shard", "1/3"])
    values = json.loads(json.dumps(config.as_dict()))
    assert (values["shard"], values["fields"]) == ("1/3", {"team": "blue"})
    assert values["run_dir"] == str(config.run_dir)
    assert values["inputs"] == list(config.corpus.inputs)


def test_a_configuration_comes_back_from_the_json_that_it_was_stored_as(tmp_path: Path) -> None:
    config = parse(
        "a caf\udce9 --files-from - --adapter memory://x --text-model stand-in:8 --image-model stand-in:4"
        " --chunk-size 128 --chunk-overlap 16 --max-ram 8GiB --shard 2/4 --file-timeout 10 --grace 0.5"
        " --chunker mine --chunker-option by=words --chunker-option at=1"
        " --include *.txt --exclude x --no-images --limit 7"
        f" --field b=2 --field a=1=1 --quiet --run-dir {tmp_path}/run".split()
    )
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    plain = parse(["corpus"])
    assert Config.from_dict(json.loads(json.dumps(plain.as_dict()))) == plain


def test_a_configuration_of_another_version_keeps_what_both_know() -> None:
    stored = parse(["corpus", "--workers", "7", "--limit", "3"]).as_dict()
    del stored["limit"]
    found = Config.from_dict({**stored, "no-longer": 1})
    assert (found.memory.workers, found.corpus.limit, found.corpus.inputs) == (
        7,
        None,
        (os.path.abspath("corpus"),),
    )
    for broken in (
        {"shard": "four"},
        {"shard": 4},
        {"run_dir": 5},
        {"fields": "a=b"},
        {"chunker_options": 3},
    ):
        with pytest.raises(UsageError, match="not a run's configuration"):
            Config.from_dict(stored | broken)
