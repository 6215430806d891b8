"""The command line of `engine.run`, parsed once into a frozen configuration."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from adapters import SCHEMES, scheme_of
from adapters.base import AdapterOptions
from engine.errors import UsageError
from engine.fleet.manifest import read_header
from engine.machine import batch_job as job
from engine.machine.cores import cores
from engine.models import backends
from engine.models.choices import DTYPES, check_backend
from engine.records import RECORD_FIELDS

DEFAULT_ADAPTER = "lancedb://vectors.lancedb"
DEFAULT_TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

#: Kinds of vector index that `--es-index-options` takes.
ES_INDEX_OPTIONS = ("hnsw", "int8_hnsw", "int4_hnsw", "bbq_hnsw", "bbq_disk")

#: Kinds of vector index that `--lancedb-index` takes.
LANCEDB_INDEXES = ("exact", "ivf_rq", "ivf_sq", "ivf_flat")

#: Units of a byte size; a bare number is bytes, `K`, `M`, `G`, `T` and `KB` … are binary as well.
BYTE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

#: A size in bytes is below this: what a signed 64-bit number holds.
SIZE_LIMIT = 2**63

#: Least bytes for a parser: libraries and tokenizer take about 110 MiB before the first file.
LEAST_PARSER_MEMORY = 192 * 2**20


@dataclass(frozen=True, slots=True)
class Config:
    """Every option of a run, checked. Sizes are bytes, times are seconds."""

    inputs: tuple[str, ...]
    files_from: str | None
    adapter: str
    run_dir: Path
    text_model: str
    image_model: str | None
    trust_remote_code: bool
    backend: str
    device: str
    dtype: str
    workers: int
    chunk_size: int | None
    chunk_overlap: int
    buffer: int | None
    max_ram: int | None
    parser_memory: int | None
    shard: tuple[int, int]
    fleet: bool
    manifest: str | None
    lease: bool
    lease_ttl: float
    file_timeout: float
    file_attempts: int
    database_deadline: float
    bulk_bytes: int
    bulk_concurrency: int
    es_index_options: str | None
    es_store_vectors: bool | None
    lancedb_index: str | None
    full: bool
    grace: float
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    hidden: bool
    images: bool
    exact_images: bool
    dedupe: bool
    tolerate_truncated: bool
    prune: bool
    skip_failed: bool
    limit: int | None
    dry_run: bool
    fields: tuple[tuple[str, str], ...]
    quiet: bool
    log_level: str
    memory_trace: str | None
    calibrate: bool

    @property
    def adapter_options(self) -> AdapterOptions:
        """The part that the adapter gets."""
        index = self.lancedb_index if scheme_of(self.adapter) == "lancedb" else self.es_index_options
        return AdapterOptions(
            self.bulk_bytes,
            self.bulk_concurrency,
            index,
            self.es_store_vectors,
            self.full,
            task="{}-of-{}".format(*self.shard) if self.fleet else None,
        )

    def as_dict(self) -> dict[str, object]:
        """The configuration for `summary.json`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["run_dir"] = str(self.run_dir)
        values["shard"] = "{}/{}".format(*self.shard)
        values["fields"] = dict(self.fields)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Config:
        """The configuration that `as_dict` gave, also as JSON gives it back.

        An option that a newer engine has added gets its default; one that an older engine had is left out.
        Raises `UsageError` where `values` is something else.
        """
        given: dict[str, Any] = parse(["."]).as_dict()
        try:
            given.update((name, value) for name, value in values.items() if name in given)
            given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
            given["run_dir"] = Path(given["run_dir"])
            given["shard"] = _shard(given["shard"])
            given["fields"] = tuple(sorted(given["fields"].items()))
            return Config(**given)
        except (TypeError, AttributeError, argparse.ArgumentTypeError) as error:
            raise UsageError(f"not a run's configuration: {error}") from None


def parse_bytes(text: str) -> int:
    """`256MiB`, `1.5G` or `4096` in bytes. Raises `ValueError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(text)
    size = float(match[1]) * BYTE_UNITS[match[2].upper()]
    if size >= SIZE_LIMIT:
        raise ValueError(text)
    return int(size)


def engine_version() -> str:
    """The installed version; a plain checkout says so."""
    try:
        return version("vector-streaming-engine")
    except PackageNotFoundError:
        return "0+checkout"


def parse(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line. Raises `UsageError`, and `SystemExit(0)` for --help, --version."""
    return from_arguments(run_parser().parse_intermixed_args(argv))


def from_arguments(args: argparse.Namespace) -> Config:
    """The configuration of a command line that was parsed. Raises `UsageError`."""
    if args.manifest is not None:
        _use_manifest(args)
    elif args.lease:
        raise UsageError("--lease: leases are of a manifest; give --manifest FILE, made by engine.plan")
    if not args.inputs and args.files_from is None:
        raise UsageError("no INPUT: name at least one file or folder, or --files-from LIST")
    if "" in args.inputs:
        # An unset variable of a shell, which must not stand for the working folder.
        raise UsageError("INPUT '' is empty: name a file or folder; the working folder is .")
    check_url(args.adapter)
    _check_database_options(args)
    check_backend(args.backend, args.device, args.dtype)
    inputs = tuple(os.path.abspath(name) for name in args.inputs)
    run_dir = Path(args.run_dir) if args.run_dir else _default_run_dir(inputs, args.files_from, args.adapter)
    if args.fleet:
        _check_fleet(args)
    if args.shard[1] > 1 or args.fleet:
        run_dir = run_dir / "shards" / "{}-of-{}".format(*args.shard)
    values = vars(args) | {
        "inputs": inputs,
        "run_dir": run_dir.absolute(),
        "include": tuple(args.include),
        "exclude": tuple(args.exclude),
        "fields": _constant_fields(args.field),
        "images": not args.no_images,
    }
    return Config(**{field.name: values[field.name] for field in fields(Config)})


def _check_database_options(args: argparse.Namespace) -> None:
    """What the other database is told would be lost on this one without a word."""
    scheme = scheme_of(args.adapter)
    given = {
        "--lancedb-index": (args.lancedb_index, "elasticsearch"),
        "--es-index-options": (args.es_index_options, "lancedb"),
        "--es-store-vectors": (args.es_store_vectors, "lancedb"),
    }
    for name, (value, refused_by) in given.items():
        if value is not None and scheme.startswith(refused_by):
            raise UsageError(f"{name}: means nothing to {scheme}://, which --adapter names; leave it out")


def _check_fleet(args: argparse.Namespace) -> None:
    """What concerns the whole index is for the fleet's last job to do, and not for one of its tasks."""
    if args.run_dir is None:
        raise UsageError("--fleet: name the --run-dir that its tasks share")
    for name in ("full", "prune", "limit"):
        if getattr(args, name):
            after = "; engine.merge --prune does it" if name == "prune" else ""
            raise UsageError(f"--fleet: not with --{name}, which one task alone can't do{after}")


def _use_manifest(args: argparse.Namespace) -> None:
    """Take what was listed, and how, from the manifest. Raises `UsageError` where the command has others."""
    args.manifest = os.path.abspath(args.manifest)
    header = read_header(Path(args.manifest))
    if args.prune:
        raise UsageError(
            "--prune can't go with --manifest, which is older than the corpus: it is for the one who finishes"
        )
    given = {
        "INPUT": (tuple(os.path.abspath(name) for name in args.inputs), header.inputs),
        "--files-from": (list_name(args.files_from), header.files_from),
        "--include": (tuple(args.include), header.include),
        "--exclude": (tuple(args.exclude), header.exclude),
        "--hidden": (args.hidden, header.hidden),
    }
    for name, (here, there) in given.items():
        if here and here != there:
            told = there if isinstance(there, str) else ", ".join(there) if isinstance(there, tuple) else ""
            raise UsageError(
                f"{name}: {args.manifest} was listed {f'with {told}' if told else 'without it'};"
                " leave it out, or plan again"
            )
    args.inputs, args.files_from = list(header.inputs), header.files_from
    args.include, args.exclude, args.hidden = header.include, header.exclude, header.hidden


def list_name(files_from: str | None) -> str | None:
    """The absolute path of a list of files; `-` stays."""
    return files_from if files_from in (None, "-") else os.path.abspath(str(files_from))


def check_url(url: str) -> None:
    """Raises `UsageError` for an adapter URL with credentials, or of no known database."""
    # Before anything that repeats the URL: a password must not reach a terminal or a log.
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            "--adapter: the URL holds credentials; give them in the environment instead "
            "(ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_API_KEY)"
        )
    scheme_of(url)


class CommandParser(argparse.ArgumentParser):
    """A parser whose mistakes are `UsageError`s of one line, as every other mistake of a user is."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)")


def run_parser() -> CommandParser:
    """The options of `engine.run`, for a command that takes them as well."""
    parser = CommandParser(
        prog="python -m engine.run",
        description="Parse, embed and index a corpus into a vector database, in bounded memory. "
        "The same command again resumes, or does nothing where nothing changed.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="files and folders")
    add("--files-from", metavar="LIST", help="a file with one path a line; - is standard input")
    schemes = ", ".join(f"{name}://" for name in SCHEMES)
    add("--adapter", default=DEFAULT_ADAPTER, metavar="URL", help=f"{schemes} (default {DEFAULT_ADAPTER})")
    add("--run-dir", metavar="DIR", help="ledger, log, summary (default runs/<digest of inputs and adapter>)")
    add("--text-model", default=DEFAULT_TEXT_MODEL, metavar="NAME",
        help="hub id, local folder or stand-in:DIM[@TOKENS_PER_S] (default %(default)s)")  # fmt: skip
    add("--image-model", metavar="NAME", help="architecture/tag, local folder or stand-in:DIM[@IMAGES_PER_S]")
    add_model_options(parser)
    add("--workers", type=count(1), default=default_workers(), metavar="N",
        help="most parser processes; there are as many of them as the model needs to be kept busy"
        " (default: cores less one, %(default)s here)")  # fmt: skip
    add("--chunk-size", type=count(1), metavar="TOKENS",
        help="largest chunk, special tokens included (default: the model's largest input)")  # fmt: skip
    add("--chunk-overlap", type=count(0), default=0, metavar="TOKENS", help="shared tokens (default 0)")
    add("--buffer", type=_bytes(1), metavar="BYTES",
        help="most bytes between parsing and acknowledgement"
        " (default 256MiB, or what --max-ram leaves)")  # fmt: skip
    add("--max-ram", type=_bytes(1), metavar="BYTES",
        help="most memory of all processes together (default: 90%% of a container's or job's limit, else 75%%"
        " of what is free)")  # fmt: skip
    add("--parser-memory", type=_bytes(LEAST_PARSER_MEMORY), metavar="BYTES",
        help="limit of each parser process (default 1GiB, or what --max-ram leaves)")  # fmt: skip
    add(
        "--memory-trace",
        metavar="FILE",
        help="write the memory of each stage over time, a JSON object a line",
    )
    add("--calibrate", action="store_true",
        help="time the models alone at first, on chunks of this corpus's lengths, and keep it")  # fmt: skip
    add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="only this share of the files, I from 0")
    add("--fleet", action="store_true",
        help="one task of several at once; engine.merge ends what they began")  # fmt: skip
    add("--manifest", metavar="FILE", help="take this share's files from a manifest of engine.plan")
    add("--lease", action="store_true", help="take pieces of the manifest by turns with other tasks")
    add("--lease-ttl", type=seconds, default=120.0, metavar="SECONDS",
        help="silence after which a task's lease is another's (default 120)")  # fmt: skip
    add("--file-timeout", type=seconds, default=600.0, metavar="SECONDS",
        help="longest parsing of one file without progress (default 600)")  # fmt: skip
    add("--file-attempts", type=count(1), default=2, metavar="N",
        help="parsers that a file may crash before it is tried a last time alone (default 2)")  # fmt: skip
    add("--database-deadline", type=seconds, default=900.0, metavar="SECONDS",
        help="longest wait for a database that went away (default 900)")  # fmt: skip
    add("--bulk-bytes", type=_bytes(1), default=8 * 2**20, metavar="BYTES",
        help="most bytes of one request to the database (default 8MiB)")  # fmt: skip
    add("--bulk-concurrency", type=count(1), default=2, metavar="N",
        help="most requests to the database at once (default 2)")  # fmt: skip
    add("--es-index-options", choices=ES_INDEX_OPTIONS, help="vector index of a new Elasticsearch index")
    add("--es-store-vectors", action=argparse.BooleanOptionalAction,
        help="keep vectors in Elasticsearch's _source (default: where nothing else has them)")  # fmt: skip
    add("--lancedb-index", choices=LANCEDB_INDEXES,
        help="vector index of LanceDB (default: none, from 250,000 records on ivf_rq)")  # fmt: skip
    add("--full", action="store_true", help="load a new generation of the index beside the old one")
    add("--grace", type=seconds, default=60.0, metavar="SECONDS",
        help="longest drain after a stop signal (default 60)")  # fmt: skip
    add("--include", action="append", default=[], metavar="GLOB", help="only files that match (repeatable)")
    add("--exclude", action="append", default=[], metavar="GLOB", help="leave files out (repeatable)")
    add("--hidden", action="store_true", help="take hidden files and folders too")
    add("--no-images", action="store_true", help="leave pictures out")
    add("--exact-images", action="store_true", help="decode pictures in full, as open_clip does")
    add("--dedupe", action=argparse.BooleanOptionalAction, default=True,
        help="embed equal chunks and pictures once (default: on)")  # fmt: skip
    add("--tolerate-truncated", action="store_true", help="take what there is of pictures that end early")
    add("--prune", action="store_true", help="delete the records of files that left the corpus")
    add("--skip-failed", action="store_true", help="don't try again what failed before")
    add("--limit", type=count(1), metavar="N", help="at most this many files")
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("--field", action="append", default=[], metavar="NAME=VALUE", help="a constant field of each record")
    add("--quiet", action="store_true", help="no progress line")
    levels = ("debug", "info", "warning", "error")
    add("--log-level", default="info", choices=levels, help="of DIR/run.log (default info)")
    add("--version", action="version", version=engine_version())
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options with which every command loads models."""
    add = parser.add_argument
    add("--trust-remote-code", action="store_true", help="let a model run code of its own from the hub")
    add("--backend", default="auto", choices=backends.names(),
        help="library that runs the models (default auto: torch on a GPU, on a CPU the fastest)")  # fmt: skip
    add("--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:N or mps (default auto)")
    add("--dtype", default="auto", choices=DTYPES,
        help="precision of the models (default auto); int8: of texts, by --backend onnx alone")  # fmt: skip


def default_workers() -> int:
    """Parser processes: the cores this process may use less one, which the model takes; at least one."""
    return max(1, cores() - 1)


def _default_run_dir(inputs: Sequence[str], files_from: str | None, adapter: str) -> Path:
    parts = "\0".join([*sorted(inputs), files_from or "", adapter]).encode("utf-8", "surrogateescape")
    return Path("runs") / hashlib.sha256(parts).hexdigest()[:12]


def _constant_fields(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
            raise UsageError(f"--field {pair}: give NAME=VALUE, the name of letters, digits and _")
        if not value.isprintable():
            raise UsageError(f"--field {pair!a}: the value must be printable text in UTF-8")
        if name in RECORD_FIELDS:
            raise UsageError(f"--field {pair}: {name} is one of the record's own fields")
        found[name] = value
    return tuple(sorted(found.items()))


def count(least: int) -> Callable[[str], int]:
    """For `argparse`: a whole number of at least that."""

    def convert(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return convert


def _bytes(least: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            size = parse_bytes(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256MiB or 8GiB") from None
        if size < least:
            enough = f"{least // 2**20}MiB" if least >= 2**20 else "1 byte"
            raise argparse.ArgumentTypeError(f"{text!r} is not a size of at least {enough}")
        return size

    return convert


def seconds(text: str) -> float:
    """An option's seconds. Raises `argparse.ArgumentTypeError` for anything but a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _shard(text: str) -> tuple[int, int]:
    if text == "auto":
        return _place_in_array()
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1, such as 0/8")
    return int(match[1]), int(match[2])


def _place_in_array() -> tuple[int, int]:
    place = job.place(os.environ)
    if place is None:
        raise argparse.ArgumentTypeError(
            "'auto' is for a task of a SLURM array without gaps, such as sbatch --array=0-7; give I/N"
        )
    return place


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu, cuda, cuda:N or mps")
    return text
