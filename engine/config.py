"""The configuration of a run: frozen dataclasses with defaults, in groups by subject.

    Config(CorpusConfig(inputs=("/data",)), database=DatabaseConfig("lancedb:///index"))

Each value is checked where it is made. What depends on the parts that are installed (databases, backends,
chunkers) is checked by those parts. Field names are unique over all groups: they are the options' names, and
the keys of the flat dictionary that ledgers and `summary.json` hold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from engine.errors import UsageError
from engine.records import RECORD_FIELDS, ChunkerChoice, index_url

DEFAULT_ADAPTER = "lancedb://vectors.lancedb"
DEFAULT_CHUNKER = "tokens"
DEFAULT_TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

#: Least bytes for a parser: libraries and tokenizer take about 110 MiB before the first file.
LEAST_PARSER_MEMORY = 192 * 2**20

#: A size in bytes is below this: what a signed 64-bit number holds.
SIZE_LIMIT = 2**63

#: Levels of `--log-level`.
LOG_LEVELS = ("debug", "info", "warning", "error")

#: Names and values, sorted by name.
Pairs = tuple[tuple[str, str], ...]

#: What a device is called; several are separated by commas.
_DEVICE = re.compile(r"auto|(cpu|mps|cuda(:\d+)?)(,(cpu|mps|cuda(:\d+)?))*")

#: What a constant field may be called.
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def _number(default: int | None, least: int, unit: str = "") -> Any:
    """A field for a whole number of at least `least`; None where the default is."""
    return field(default=default, metadata={"least": least, "unit": unit})


def _seconds(default: float) -> Any:
    """A field for seconds above 0."""
    return field(default=default, metadata={"unit": "seconds"})


class _Checked:
    """Checks what `_number` and `_seconds` promise. Raises `UsageError`."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type] # subclasses are dataclasses
            value, least = getattr(self, each.name), each.metadata.get("least")
            if value is None:
                continue
            if each.metadata.get("unit") == "seconds" and not 0 < value < math.inf:
                raise UsageError(f"{option_name(each.name)} {value}: give a number of seconds above 0")
            if least is not None and value < least:
                raise UsageError(f"{option_name(each.name)} {value}: give a whole number of at least {least}")


@dataclass(frozen=True, slots=True)
class CorpusConfig(_Checked):
    """What goes in: `inputs` are absolute paths or URIs, `files_from` names a list of them (`-`: stdin)."""

    inputs: tuple[str, ...] = ()
    files_from: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    gitignore: bool = True
    default_excludes: bool = True
    limit: int | None = _number(None, 1)
    prune: bool = False
    skip_failed: bool = False


@dataclass(frozen=True, slots=True)
class ParsingConfig(_Checked):
    """How it is read and cut. A `chunk_size` of None is the model's largest input, in tokens."""

    chunker: str = DEFAULT_CHUNKER
    chunk_size: int | None = _number(None, 1)
    chunk_overlap: int = _number(0, 0)
    chunker_options: Pairs = field(default=(), metadata={"pairs": True})
    dedupe: bool = True
    images: bool = True
    exact_images: bool = False
    tolerate_truncated: bool = False
    file_timeout: float = _seconds(600.0)
    file_attempts: int = _number(2, 1)

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        self.chunker_choice.given()  # raises where one is given twice

    @property
    def chunker_choice(self) -> ChunkerChoice:
        """The chunker that cuts, with every option that was given for it."""
        return ChunkerChoice(self.chunker, self.chunk_size, self.chunk_overlap, self.chunker_options)


@dataclass(frozen=True, slots=True)
class ModelConfig(_Checked):
    """What embeds, and on what. An `image_model` of None is found when the first picture is met."""

    text_model: str = DEFAULT_TEXT_MODEL
    image_model: str | None = None
    trust_remote_code: bool = False
    backend: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    calibrate: bool = False

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"--device {self.device}: give {DEVICES}")


@dataclass(frozen=True, slots=True)
class DatabaseConfig(_Checked):
    """Where it goes. `fields` are constant fields of each record, sorted by name."""

    adapter: str = DEFAULT_ADAPTER
    fields: Pairs = field(default=(), metadata={"pairs": True})
    full: bool = False
    bulk_bytes: int = _number(8 * 2**20, 1, "bytes")
    bulk_concurrency: int = _number(2, 1)
    database_deadline: float = _seconds(900.0)

    def __post_init__(self) -> None:
        _Checked.__post_init__(self)
        for name, value in self.fields:
            pair = f"--field {name}={value}"
            if not _FIELD_NAME.fullmatch(name):
                raise UsageError(f"{pair}: give NAME=VALUE, the name of letters, digits and _")
            if not value.isprintable():
                raise UsageError(f"--field {f'{name}={value}'!a}: the value must be printable text in UTF-8")
            if name in RECORD_FIELDS:
                raise UsageError(f"{pair}: {name} is one of the record's own fields")


@dataclass(frozen=True, slots=True)
class MemoryConfig(_Checked):
    """Processes and memory, in bytes. None leaves the figure to the run's plan of memory."""

    workers: int = _number(1, 1)
    max_ram: int | None = _number(None, 1, "bytes")
    buffer: int | None = _number(None, 1, "bytes")
    parser_memory: int | None = _number(None, LEAST_PARSER_MEMORY, "bytes")


@dataclass(frozen=True, slots=True)
class TaskConfig(_Checked):
    """Which part of the corpus this run takes: `shard` is (number from 0, of how many)."""

    shard: tuple[int, int] = (0, 1)
    fleet: bool = False

    @property
    def name(self) -> str:
        """The shard as part of a path, such as `0-of-8`."""
        return "{}-of-{}".format(*self.shard)

    def folder(self, run_dir: Path) -> Path:
        """This task's own directory in the one that was named."""
        return run_dir / "shards" / self.name if self.shard[1] > 1 or self.fleet else run_dir


@dataclass(frozen=True, slots=True)
class RunConfig(_Checked):
    """The run itself, and what it says."""

    grace: float = _seconds(60.0)
    dry_run: bool = False
    quiet: bool = False
    verbose: bool = False
    log_level: str = "info"
    memory_trace: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a run is told. `run_dir` is absolute; `Path()` becomes that of inputs and database."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    parsing: ParsingConfig = field(default_factory=ParsingConfig)
    models: ModelConfig = field(default_factory=ModelConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    run: RunConfig = field(default_factory=RunConfig)
    run_dir: Path = Path()

    def __post_init__(self) -> None:
        if self.run_dir == Path():
            corpus = self.corpus
            folder = default_run_dir(corpus.inputs, corpus.files_from, self.database.adapter)
            object.__setattr__(self, "run_dir", self.task.folder(folder).absolute())

    def changed(self, **values: Any) -> Self:
        """This configuration with other values, by the names of fields. Raises `UsageError`."""
        groups: dict[str, Any] = {}
        for name, kind in GROUPS.items():
            own = {each.name: values.pop(each.name) for each in fields(kind) if each.name in values}
            groups[name] = dataclasses.replace(getattr(self, name), **own)
        return dataclasses.replace(self, **groups, **values)

    def as_dict(self) -> dict[str, object]:
        """The configuration by the names of its fields, for JSON."""
        found: dict[str, object] = {"run_dir": str(self.run_dir)}
        for name, kind in GROUPS.items():
            group = getattr(self, name)
            for each in fields(kind):
                value = getattr(group, each.name)
                found[each.name] = dict(value) if each.metadata.get("pairs") else value
        found["shard"] = "{}/{}".format(*self.task.shard)
        return found

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `as_dict` gave, also as JSON gives it back.

        An option that a newer engine has added gets its default; one that an older engine had is left out.
        Raises `UsageError` where `values` is something else.
        """
        try:
            known = [each for kind in GROUPS.values() for each in fields(kind)] + [*fields(cls)]
            given = {each.name: _from_json(each, values[each.name]) for each in known if each.name in values}
            return cls().changed(**given)
        except (TypeError, AttributeError, ValueError) as error:
            raise UsageError(f"not a run's configuration: {error}") from None


#: The groups by the names that `Config` has for them.
GROUPS: dict[str, type[Any]] = {
    "corpus": CorpusConfig,
    "parsing": ParsingConfig,
    "models": ModelConfig,
    "database": DatabaseConfig,
    "memory": MemoryConfig,
    "task": TaskConfig,
    "run": RunConfig,
}

#: What `--device` takes.
DEVICES = "auto, cpu, cuda, cuda:N or mps, or several by commas"


def default_run_dir(inputs: Iterable[str], files_from: str | None, adapter: str) -> Path:
    """A folder below `runs`, the same for the same corpus and database, whatever the other options."""
    parts = "\0".join([*sorted(inputs), files_from or "", index_url(adapter)])
    return Path("runs") / hashlib.sha256(parts.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def option_name(field_name: str) -> str:
    """The option of a field, for messages."""
    return "--" + field_name.replace("_", "-")


def sorted_pairs(values: Mapping[str, object]) -> Pairs:
    """For a field of names and values, the values as text."""
    return tuple(sorted((name, str(value)) for name, value in values.items()))


def _from_json(each: dataclasses.Field[Any], value: Any) -> Any:
    if each.metadata.get("pairs"):
        return sorted_pairs(value)
    if each.name == "run_dir":
        return Path(value)
    if each.name == "shard":
        number, of = value.split("/")
        return int(number), int(of)
    return tuple(value) if isinstance(value, list) else value
