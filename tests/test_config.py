"""A command line becomes a checked configuration, or one line that says what would be accepted."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import (
    DEFAULT_ADAPTER,
    LEAST_PARSER_MEMORY,
    Config,
    default_workers,
    engine_version,
    parse,
    parse_bytes,
)
from engine.errors import UsageError
from engine.records import RECORD_FIELDS


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as refused:
        parse(argv)
    return str(refused.value)


# What is accepted


def test_an_input_alone_takes_the_documented_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse(["corpus"])
    assert config.inputs == (f"{tmp_path}/corpus",)
    assert config.adapter == DEFAULT_ADAPTER == "lancedb://vectors.lancedb"
    assert config.text_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert (config.buffer, config.parser_memory, config.max_ram) == (None, None, None)
    assert (config.shard, config.chunk_size, config.chunk_overlap, config.limit) == ((0, 1), None, 0, None)
    assert (config.backend, config.device, config.dtype) == ("auto", "auto", "auto")
    assert (config.images, config.log_level) == (True, "info")
    assert config.workers == default_workers() >= 1
    assert config.run_dir.parent == tmp_path / "runs"


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    config = parse(
        "a b --files-from - --adapter memory://x --text-model stand-in:8 --image-model stand-in:4"
        " --trust-remote-code --backend torch --device cuda:1 --dtype float16 --workers 3 --chunk-size 128"
        " --chunk-overlap 16"
        " --buffer 64MiB --max-ram 8GiB --parser-memory 2GiB --shard 2/4 --lease-ttl 9 --file-timeout 10"
        " --file-attempts 3 --memory-trace trace.jsonl --calibrate"
        " --bulk-bytes 1MiB --bulk-concurrency 4 --es-index-options hnsw --no-es-store-vectors --full"
        " --lancedb-index ivf_sq"
        " --database-deadline 20 --grace 0.5 --include *.txt --include *.md --exclude x --hidden --no-images"
        " --exact-images --no-dedupe --tolerate-truncated --prune --skip-failed --limit 7 --dry-run"
        f" --field b=2 --field a=1=1 --quiet --log-level debug --run-dir {tmp_path}/run".split()
    )
    assert config == Config(
        inputs=(os.path.abspath("a"), os.path.abspath("b")),
        files_from="-",
        adapter="memory://x",
        run_dir=tmp_path / "run/shards/2-of-4",
        text_model="stand-in:8",
        image_model="stand-in:4",
        trust_remote_code=True,
        backend="torch",
        device="cuda:1",
        dtype="float16",
        workers=3,
        chunk_size=128,
        chunk_overlap=16,
        buffer=64 * 2**20,
        max_ram=8 * 2**30,
        parser_memory=2 * 2**30,
        shard=(2, 4),
        fleet=False,
        manifest=None,
        lease=False,
        lease_ttl=9.0,
        file_timeout=10.0,
        file_attempts=3,
        database_deadline=20.0,
        bulk_bytes=2**20,
        bulk_concurrency=4,
        es_index_options="hnsw",
        es_store_vectors=False,
        lancedb_index="ivf_sq",
        full=True,
        grace=0.5,
        include=("*.txt", "*.md"),
        exclude=("x",),
        hidden=True,
        images=False,
        exact_images=True,
        dedupe=False,
        tolerate_truncated=True,
        prune=True,
        skip_failed=True,
        limit=7,
        dry_run=True,
        fields=(("a", "1=1"), ("b", "2")),
        quiet=True,
        log_level="debug",
        memory_trace="trace.jsonl",
        calibrate=True,
    )


def test_the_configuration_is_json_whatever_the_names_are() -> None:
    config = parse(["caf\udce9", "--field", "team=blue", "--shard", "1/3"])
    values = json.loads(json.dumps(config.as_dict()))
    assert (values["shard"], values["fields"]) == ("1/3", {"team": "blue"})
    assert values["run_dir"] == str(config.run_dir)
    assert values["inputs"] == list(config.inputs)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("256MiB", 2**28),
        ("1.5G", 3 * 2**29),
        ("8 gb", 2**33),
        ("2k", 2048),
        ("1TiB", 2**40),
        ("0", 0),
    ],
)
def test_sizes_are_read_with_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "1 2", "-1", "1e3", "MiB", "1 PiB", "8388608T", "9" * 400])
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_bytes(text)
    assert str(refused.value) == text


@given(st.text(max_size=12) | st.from_regex(r"\d+[kKmMgGtT]?i?[bB]?", fullmatch=True))
def test_no_text_makes_a_size_that_a_machine_can_not_have(text: str) -> None:
    with suppress(ValueError):
        assert 0 <= parse_bytes(text) < 2**63


# The run directory


def test_the_default_run_directory_is_the_same_in_any_order_of_inputs() -> None:
    assert parse(["a", "b"]).run_dir == parse(["b", "./a/"]).run_dir
    others = [["a"], ["a", "b", "c"], ["a", "b", "--files-from", "x"], ["a", "b", "--adapter", "memory://m"]]
    folders = {parse(argv).run_dir for argv in [["a", "b"], *others]}
    assert len(folders) == 5


def test_options_that_change_no_record_s_place_keep_the_run_directory() -> None:
    assert parse(["a", "--workers", "2", "--no-images", "--prune"]).run_dir == parse(["a"]).run_dir


def test_a_shard_has_a_directory_of_its_own_below(tmp_path: Path) -> None:
    shard = parse(["a", "--run-dir", str(tmp_path), "--shard", "3/8"])
    assert shard.run_dir == tmp_path / "shards" / "3-of-8"
    assert parse(["a", "--run-dir", str(tmp_path), "--shard", "0/1"]).run_dir == tmp_path


def test_inputs_that_are_not_utf8_have_a_run_directory() -> None:
    assert parse(["caf\udce9"]).run_dir != parse(["cafe"]).run_dir


# What is refused


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--workers 0", "argument --workers: '0' is not a whole number of at least 1"),
        ("--workers two", "argument --workers: 'two' is not a whole number of at least 1"),
        ("--chunk-size 0", "argument --chunk-size: '0' is not a whole number of at least 1"),
        ("--chunk-size 1.5", "argument --chunk-size: '1.5' is not a whole number of at least 1"),
        ("--chunk-overlap=-1", "argument --chunk-overlap: '-1' is not a whole number of at least 0"),
        ("--limit 0", "argument --limit: '0' is not a whole number of at least 1"),
        ("--buffer lots", "argument --buffer: 'lots' is not a size such as 256MiB or 8GiB"),
        ("--buffer 0", "argument --buffer: '0' is not a size of at least 1 byte"),
        ("--max-ram 0MiB", "argument --max-ram: '0MiB' is not a size of at least 1 byte"),
        ("--max-ram " + "9" * 400, f"argument --max-ram: '{'9' * 400}' is not a size such as 256MiB or 8GiB"),
        ("--parser-memory 1MiB", "argument --parser-memory: '1MiB' is not a size of at least 192MiB"),
        ("--shard 4/4", "argument --shard: '4/4' is not I/N with I from 0 to N-1, such as 0/8"),
        ("--shard 0/0", "argument --shard: '0/0' is not I/N with I from 0 to N-1, such as 0/8"),
        ("--shard 1", "argument --shard: '1' is not I/N with I from 0 to N-1, such as 0/8"),
        ("--file-timeout 0", "argument --file-timeout: '0' is not a number of seconds above 0"),
        ("--file-timeout nan", "argument --file-timeout: 'nan' is not a number of seconds above 0"),
        ("--grace inf", "argument --grace: 'inf' is not a number of seconds above 0"),
        (
            "--database-deadline soon",
            "argument --database-deadline: 'soon' is not a number of seconds above 0",
        ),
        ("--device gpu", "argument --device: 'gpu' is not auto, cpu, cuda, cuda:N or mps"),
        ("--device cuda:x", "argument --device: 'cuda:x' is not auto, cpu, cuda, cuda:N or mps"),
        (
            "--dtype int4",
            "argument --dtype: invalid choice: 'int4'"
            " (choose from 'auto', 'float32', 'bfloat16', 'float16', 'int8')",
        ),
        (
            "--backend jax",
            "argument --backend: invalid choice: 'jax'"
            " (choose from 'auto', 'onnx', 'openvino', 'torch', 'stand-in')",
        ),
        ("--colour red", "unrecognized arguments: --colour red"),
        ("--work 3", "unrecognized arguments: --work 3"),
    ],
)
def test_a_bad_option_is_one_line_with_its_value_and_what_is_accepted(argv: str, message: str) -> None:
    assert refusal("corpus", *argv.split(" ")) == f"{message} (see --help)"


@pytest.mark.parametrize("argv", [[], ["--quiet"]])
def test_a_command_without_input_is_told_how_to_name_one(argv: list[str]) -> None:
    assert refusal(*argv) == "no INPUT: name at least one file or folder, or --files-from LIST"


def test_an_empty_input_is_not_taken_for_the_working_folder() -> None:
    assert refusal("") == "INPUT '' is empty: name a file or folder; the working folder is ."


def test_an_unknown_database_is_named_with_those_that_are_known() -> None:
    message = refusal("corpus", "--adapter", "mysql://host/table")
    assert message.startswith("--adapter mysql://host/table: unknown database; accepted are ")
    assert "lancedb://" in message
    assert refusal("corpus", "--adapter", "vectors").startswith("--adapter vectors: unknown database")


@pytest.mark.parametrize("scheme", ["elasticsearch", "elasticsearch+https", "mysql"])
def test_a_password_in_the_url_is_refused_and_not_repeated(scheme: str) -> None:
    message = refusal("corpus", "--adapter", f"{scheme}://user:geheim@host:9200/index")
    assert "credentials" in message
    assert "ELASTICSEARCH_PASSWORD" in message
    assert "geheim" not in message


@pytest.mark.parametrize("pair", ["team", "=blue", "1st=x", "two words=x", "x-y=z", "a" * 65 + "=x"])
def test_a_constant_field_needs_a_plain_name_and_a_value(pair: str) -> None:
    expected = f"--field {pair}: give NAME=VALUE, the name of letters, digits and _"
    assert refusal("corpus", "--field", pair) == expected


@pytest.mark.parametrize("name", RECORD_FIELDS)
def test_a_constant_field_can_not_take_the_name_of_a_record_s_own(name: str) -> None:
    expected = f"--field {name}=x: {name} is one of the record's own fields"
    assert refusal("corpus", "--field", f"{name}=x") == expected


def test_the_least_parser_memory_is_accepted() -> None:
    assert parse(["corpus", "--parser-memory", "192MiB"]).parser_memory == LEAST_PARSER_MEMORY


def test_the_version_is_told_and_nothing_else_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{engine_version()}\n"


@pytest.mark.parametrize(
    ("adapter", "option", "name"),
    [
        ("elasticsearch://localhost/x", ["--lancedb-index", "exact"], "--lancedb-index"),
        ("elasticsearch+https://localhost/x", ["--lancedb-index", "ivf_rq"], "--lancedb-index"),
        ("lancedb://x", ["--es-index-options", "hnsw"], "--es-index-options"),
        ("lancedb://x", ["--no-es-store-vectors"], "--es-store-vectors"),
    ],
)
def test_an_option_of_another_database_is_refused(adapter: str, option: list[str], name: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(["corpus", "--adapter", adapter, *option])
    scheme = adapter.partition("://")[0]
    assert str(refused.value) == f"{name}: means nothing to {scheme}://, which --adapter names; leave it out"


def test_a_configuration_comes_back_from_the_json_that_it_was_stored_as(tmp_path: Path) -> None:
    config = parse(
        "a caf\udce9 --files-from - --adapter memory://x --text-model stand-in:8 --image-model stand-in:4"
        " --chunk-size 128 --chunk-overlap 16 --max-ram 8GiB --shard 2/4 --file-timeout 10 --grace 0.5"
        " --es-index-options hnsw --no-es-store-vectors --include *.txt --exclude x --no-images --limit 7"
        f" --field b=2 --field a=1=1 --quiet --run-dir {tmp_path}/run".split()
    )
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    plain = parse(["corpus"])
    assert Config.from_dict(json.loads(json.dumps(plain.as_dict()))) == plain


def test_a_configuration_of_another_version_keeps_what_both_know() -> None:
    stored = parse(["corpus", "--workers", "7", "--limit", "3"]).as_dict()
    del stored["limit"]
    found = Config.from_dict({**stored, "no-longer": 1})
    assert (found.workers, found.limit, found.inputs) == (7, None, (os.path.abspath("corpus"),))
    for broken in ({"shard": "four"}, {"shard": 4}, {"run_dir": 5}, {"fields": "a=b"}):
        with pytest.raises(UsageError, match="not a run's configuration"):
            Config.from_dict(stored | broken)


def test_a_backend_without_the_device_or_number_format_is_refused_at_once() -> None:
    for option in ("--device cuda:1", "--dtype bfloat16"):
        told = refusal("corpus", "--backend", "onnx", *option.split())
        name, value = option.removeprefix("--").split()
        assert told.startswith(f"--backend onnx needs --{name} ")
        assert told.endswith(f", not {value}")
    for backend in ("auto", "torch", "openvino"):
        told = refusal("corpus", "--backend", backend, "--dtype", "int8")
        assert told == "--dtype int8 needs --backend onnx"
