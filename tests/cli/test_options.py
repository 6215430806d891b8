"""A command line becomes a checked configuration, or one line that says what would be accepted."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine
from engine import parsers, plan
from engine.cli.options import OPTIONS, page, parse
from engine.cli.parser import parse_bytes, short_bytes
from engine.config import (
    DEFAULT_ADAPTER,
    GROUPS,
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
from engine.machine.cores import default_workers
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
    assert config.memory.workers == default_workers() >= 1
    assert config.run_dir.parent == tmp_path / "runs"
    assert config == Config(
        CorpusConfig((f"{tmp_path}/corpus",)), memory=MemoryConfig(default_workers()), run_dir=config.run_dir
    )
    assert config.database.adapter == DEFAULT_ADAPTER == "lancedb://vectors.lancedb"
    assert config.models.text_model == "sentence-transformers/all-MiniLM-L6-v2"


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    config = parse(
        "a b --files-from - --adapter memory://x --text-model stand-in:8 --image-model stand-in:4"
        " --trust-remote-code --backend torch --device cuda:1 --dtype float16 --workers 3 --chunk-size 128"
        " --chunk-overlap 16 --chunker semantic --chunker-option buffer_size=2 --chunker-option threshold=a=b"
        " --buffer 64MiB --max-ram 8GiB --parser-memory 2GiB --shard 2/4 --file-timeout 10"
        " --file-attempts 3 --memory-trace trace.jsonl --calibrate"
        " --bulk-bytes 1MiB --bulk-concurrency 4 --full"
        " --database-deadline 20 --grace 0.5 --include *.txt --include *.md --exclude x --hidden --no-images"
        " --exact-images --no-dedupe --tolerate-truncated --prune --skip-failed --limit 7 --dry-run"
        f" --field b=2 --field a=1=1 --quiet --verbose --log-level debug --run-dir {tmp_path}/run".split()
    )
    assert config == Config(
        CorpusConfig(
            inputs=(os.path.abspath("a"), os.path.abspath("b")),
            files_from="-",
            include=("*.txt", "*.md"),
            exclude=("x",),
            hidden=True,
            limit=7,
            prune=True,
            skip_failed=True,
        ),
        ParsingConfig(
            chunker="semantic",
            chunk_size=128,
            chunk_overlap=16,
            chunker_options=(("buffer_size", "2"), ("threshold", "a=b")),
            dedupe=False,
            images=False,
            exact_images=True,
            tolerate_truncated=True,
            file_timeout=10.0,
            file_attempts=3,
        ),
        ModelConfig(
            text_model="stand-in:8",
            image_model="stand-in:4",
            trust_remote_code=True,
            backend="torch",
            device="cuda:1",
            dtype="float16",
            calibrate=True,
        ),
        DatabaseConfig(
            adapter="memory://x",
            fields=(("a", "1=1"), ("b", "2")),
            full=True,
            bulk_bytes=2**20,
            bulk_concurrency=4,
            database_deadline=20.0,
        ),
        MemoryConfig(workers=3, buffer=64 * 2**20, max_ram=8 * 2**30, parser_memory=2 * 2**30),
        TaskConfig(shard=(2, 4)),
        RunConfig(
            grace=0.5, dry_run=True, quiet=True, verbose=True, log_level="debug", memory_trace="trace.jsonl"
        ),
        tmp_path / "run/shards/2-of-4",
    )


def test_every_field_of_the_configuration_has_an_option() -> None:
    named = {each.path for each in OPTIONS}
    groups = {
        f"{name}.{field.name}" for name in GROUPS for field in dataclasses.fields(getattr(Config(), name))
    }
    assert named == (groups | {"run_dir"}) - {"corpus.inputs"}
    assert len({each.field for each in OPTIONS}) == len({each.name for each in OPTIONS}) == len(OPTIONS)


def test_the_page_of_options_is_the_one_that_the_table_makes() -> None:
    path = Path(engine.__file__).parents[1] / "docs/options.md"
    assert path.read_text(encoding="utf-8").splitlines() == list(page()), (
        "run: python -m engine.cli.options > docs/options.md"
    )


def test_the_help_has_every_option_under_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for heading in ("what goes in:", "models:", "where it goes:", "memory:", "fleets:"):
        assert f"\n{heading}\n" in told
    assert told.startswith("usage: python -m engine.run INPUT... [--adapter URL] [options]\n")
    for option in OPTIONS:
        assert option.name in told
    assert "(default 8MiB)" in " ".join(told.split())


def test_the_help_ends_with_three_examples_that_are_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    examples = capsys.readouterr().out.partition("\nexamples:\n")[2]
    commands = [line.split(" engine.run ")[1] for line in examples.splitlines() if " engine.run " in line]
    assert len(commands) == 3
    for command in commands:
        assert parse(shlex.split(command)).corpus.inputs


def test_the_formats_are_told_and_nothing_else_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help-formats"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for name in parsers.PARSERS.names():
        assert f"\n{name}: " in told
    assert re.search(r"text/markdown +\.md ", told)


def test_a_plan_takes_the_options_of_a_run_and_shows_those_that_say_something_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        plan.main(["--help"])
    told = capsys.readouterr().out
    assert "--chunk-size" in told
    assert "--dry-run" not in told


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


@pytest.mark.parametrize("size", [0, 1, 1000, 2**10, 192 * 2**20, 3 * 2**30, 2**42, 2**20 + 1])
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    assert parse_bytes(short_bytes(size)) == size


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
        ("--max-ram 4", "argument --max-ram: '4' is 4 bytes; sizes take a unit, such as 4GiB"),
        ("--buffer 256", "argument --buffer: '256' is 256 bytes; sizes take a unit, such as 256MiB"),
        ("--parser-memory 1", "argument --parser-memory: '1' is 1 bytes; sizes take a unit, such as 1GiB"),
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
        (
            "--device gpu",
            "argument --device: 'gpu' is not auto, cpu, cuda, cuda:N or mps, or several by commas",
        ),
        (
            "--device cuda:x",
            "argument --device: 'cuda:x' is not auto, cpu, cuda, cuda:N or mps, or several by commas",
        ),
        (
            "--dtype int4",
            "argument --dtype: invalid choice: 'int4'"
            " (choose from 'auto', 'float32', 'bfloat16', 'float16', 'int8')",
        ),
        (
            "--backend jax",
            "argument --backend: invalid choice: 'jax'"
            " (choose from 'auto', 'onnx', 'openvino', 'torch', 'numpy', 'stand-in')",
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


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ("elasticsearch", "ELASTICSEARCH_PASSWORD"),
        ("elasticsearch+https", "ELASTICSEARCH_PASSWORD"),
        ("mysql", "leave them out"),
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(scheme: str, told: str) -> None:
    message = refusal("corpus", "--adapter", f"{scheme}://user:geheim@host:9200/index")
    assert "credentials" in message
    assert told in message
    assert "geheim" not in message


@pytest.mark.parametrize("pair", ["team", "=blue", "1st=x", "two words=x", "x-y=z", "a" * 65 + "=x"])
def test_a_constant_field_needs_a_plain_name_and_a_value(pair: str) -> None:
    expected = f"--field {pair}: give NAME=VALUE, the name of letters, digits and _"
    assert refusal("corpus", "--field", pair) == expected


def test_a_chunkers_option_has_a_value_and_is_given_once() -> None:
    message = "--chunker-option size: give NAME=VALUE, the name of letters, digits and _"
    assert refusal("corpus", "--chunker-option", "size") == message
    twice = refusal("corpus", "--chunk-size", "64", "--chunker-option", "size=32")
    assert twice == "--chunker-option size=32: size is given twice, first as 64"


@pytest.mark.parametrize("name", RECORD_FIELDS)
def test_a_constant_field_can_not_take_the_name_of_a_record_s_own(name: str) -> None:
    expected = f"--field {name}=x: {name} is one of the record's own fields"
    assert refusal("corpus", "--field", f"{name}=x") == expected


def test_the_least_parser_memory_is_accepted() -> None:
    assert parse(["corpus", "--parser-memory", "192MiB"]).memory.parser_memory == LEAST_PARSER_MEMORY


def test_the_version_is_told_and_nothing_else_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{engine.__version__}\n"


def test_options_of_a_database_are_checked_at_once() -> None:
    for adapter, told in {
        "lancedb://x?index=hnsw": "option index='hnsw' is not accepted; accepted are exact, ivf_rq,",
        "lancedb://x?store_vectors=true": "unknown option 'store_vectors'; accepted are index",
        "elasticsearch://host/x?store_vectors=1": "option store_vectors='1' is not accepted; accepted are",
    }.items():
        message = refusal("corpus", "--adapter", adapter)
        assert message.startswith(f"--adapter {adapter.partition('?')[0]}: {told}")


def test_the_options_of_a_database_are_told_and_nothing_else_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help-adapter", "lancedb"])
    assert ended.value.code == 0
    assert "index=exact|ivf_rq|ivf_sq|ivf_flat" in capsys.readouterr().out
    with pytest.raises(UsageError, match="mysql: unknown database; accepted are lancedb, "):
        parse(["--help-adapter", "mysql"])


def test_a_backend_without_the_device_or_number_format_is_refused_at_once() -> None:
    for option in ("--device cuda:1", "--dtype bfloat16"):
        told = refusal("corpus", "--backend", "onnx", *option.split())
        name, value = option.removeprefix("--").split()
        assert told.startswith(f"--backend onnx needs --{name} ")
        assert told.endswith(f", not {value}")
    for backend in ("auto", "torch", "openvino"):
        told = refusal("corpus", "--backend", backend, "--dtype", "int8")
        assert told == "--dtype int8 needs --backend onnx"
