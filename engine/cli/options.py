"""Every option of `engine.run`, once: from this table come its parser, its help and docs/options.md.

python -m engine.cli.options > docs/options.md
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

import adapters
from engine import parsers, sources
from engine.cli.parser import CommandParser, command_parser, count, seconds, short_bytes, size
from engine.config import DEVICES, GROUPS, LOG_LEVELS, Config, ModelConfig, sorted_pairs
from engine.errors import UsageError
from engine.machine import batch_job
from engine.machine.cores import default_workers
from engine.models import backends
from engine.models.choices import DTYPES, check_backend

#: Headings of the help and of docs/options.md, by the configuration's groups.
HEADINGS = {
    "corpus": "what goes in",
    "parsing": "how it is read and cut",
    "models": "models",
    "database": "where it goes",
    "memory": "memory",
    "task": "fleets",
    "run": "the run and its diagnosis",
}

#: What the help of `engine.run` ends with: arguments, and what they do.
EXAMPLES = {
    "docs/": "index a folder into ./vectors.lancedb; the same command again does what is new",
    "photos/ manuals/ --exclude 'draft*' --adapter elasticsearch://localhost:9200/archive":
        "index two folders into Elasticsearch, without some files",
    "docs/ --dry-run": "say what a run would do, and do nothing",
}  # fmt: skip

#: The options with which every command loads models.
MODEL_OPTIONS = ("trust_remote_code", "backend", "device", "dtype")

#: Bytes below which a figure of memory is one whose unit was left out.
LEAST_MEMORY = 2**20

#: How an option is read. `on` and `off` are flags that set True and False, `switch` is one with a `--no-`
#: form; `texts` and `pairs` (NAME=VALUE) may be repeated.
Kind = Literal["text", "texts", "pairs", "count", "size", "seconds", "device", "shard", "on", "off", "switch"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: `path` is its place in the configuration, `GROUP.FIELD` or `FIELD`.

    Defaults, and the least value that is accepted, are the field's; `default` is what is said of a default
    where the value alone does not tell. `flag` is the option's name where it is not the field's.
    """

    path: str
    kind: Kind
    help: str
    metavar: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    flag: str = ""

    @property
    def group(self) -> str:
        """The configuration's group; options without one are about the run."""
        return self.path.partition(".")[0] if "." in self.path else "run"

    @property
    def field(self) -> str:
        """The name of the configuration's field."""
        return self.path.rpartition(".")[2]

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.flag or ("--no-" if self.kind == "off" else "--") + self.field.replace("_", "-")

    @property
    def _declared(self) -> Field[Any]:
        owner = GROUPS[self.group] if "." in self.path else Config
        return next(each for each in fields(owner) if each.name == self.field)

    @property
    def value(self) -> Any:
        """The default."""
        if self.field == "workers":
            return default_workers()
        return None if self.field == "run_dir" else self._declared.default

    @property
    def least(self) -> int:
        """The least number that is accepted."""
        return int(self._declared.metadata.get("least", 0))

    @property
    def shown_default(self) -> str:
        """The default for help and documentation; empty where there is none worth a word."""
        if self.default or self.value is None or self.kind in ("on", "off", "texts", "pairs"):
            return self.default
        if self.kind == "switch":
            return "on" if self.value else "off"
        if self.kind == "size":
            return short_bytes(self.value)
        return f"{self.value:g}" if self.kind == "seconds" else str(self.value)


OPTIONS = (
    Option("corpus.files_from", "text", "a file with one path a line; - is standard input", "LIST"),
    Option("corpus.include", "texts", "only files that match (repeatable)", "GLOB"),
    Option("corpus.exclude", "texts", "leave files out (repeatable)", "GLOB"),
    Option("corpus.hidden", "on", "take hidden files and folders too"),
    Option("corpus.gitignore", "off", "take what .gitignore leaves out of a git work tree too"),
    Option("corpus.default_excludes", "off",
        "take .git, node_modules, __pycache__ and virtual environments (pyvenv.cfg) too"),
    Option("corpus.limit", "count", "at most this many files", "N"),
    Option("corpus.prune", "on", "delete the records of files that left the corpus"),
    Option("corpus.skip_failed", "on", "don't try again what failed before"),

    Option("parsing.chunker", "text", "how texts are cut", "NAME"),
    Option("parsing.chunk_size", "count", "largest chunk, special tokens included", "TOKENS",
        "the model's largest input"),
    Option("parsing.chunk_overlap", "count", "tokens that a chunk shares with the one before", "TOKENS"),
    Option("parsing.chunker_options", "pairs", "an option of the chunker (repeatable)", "NAME=VALUE",
        flag="--chunker-option"),
    Option("parsing.dedupe", "switch", "embed equal chunks and pictures once, and write them for each place"),
    Option("parsing.images", "off", "leave pictures out"),
    Option("parsing.exact_images", "on", "decode pictures in full, as open_clip does"),
    Option("parsing.tolerate_truncated", "on", "take what there is of pictures that end early"),
    Option("parsing.file_timeout", "seconds", "longest parsing of one file without progress", "SECONDS"),
    Option("parsing.file_attempts", "count",
        "parsers that a file may crash before it is tried a last time alone", "N"),

    Option("models.text_model", "text", "hub id, local folder or stand-in:DIM[@TOKENS_PER_S]", "NAME"),
    Option("models.image_model", "text", "architecture/tag, local folder or stand-in:DIM[@IMAGES_PER_S]",
        "NAME", "ViT-B-32, looked for when there is a picture"),
    Option("models.trust_remote_code", "on", "let a model run code of its own from the hub"),
    Option("models.backend", "text", "library that runs the models", "",
        "auto: torch on a GPU, on a CPU the fastest", tuple(backends.names())),
    Option("models.device", "device", DEVICES, "DEVICE"),
    Option("models.dtype", "text", "precision of the models; int8 needs --backend onnx, and is for texts",
        choices=DTYPES),
    Option("models.calibrate", "on",
        "before the first batch export the models, compare the backends, and time the models alone; keep it"),

    Option("database.adapter", "text",
        ", ".join(adapters.schemes()) + "; options of the database as ?NAME=VALUE", "URL"),
    Option("database.fields", "pairs", "a constant field of each record (repeatable)", "NAME=VALUE",
        flag="--field"),
    Option("database.full", "on", "load a new generation of the index beside the old one"),
    Option("database.bulk_bytes", "size", "most bytes of one request to the database", "BYTES"),
    Option("database.bulk_concurrency", "count", "most requests to the database at once", "N"),
    Option("database.database_deadline", "seconds", "longest wait for a database that went away", "SECONDS"),

    Option("memory.workers", "count",
        "most parser processes; there are as many as the model needs to be kept busy", "N", "cores less one"),
    Option("memory.max_ram", "size", "most memory of all processes together", "BYTES",
        "90% of a container's or job's limit, else 75% of what is free"),
    Option("memory.buffer", "size", "most bytes between parsing and acknowledgement", "BYTES",
        "256MiB, or what --max-ram leaves"),
    Option("memory.parser_memory", "size", "limit of each parser process", "BYTES",
        "1GiB, or what --max-ram leaves"),

    Option("task.shard", "shard", "only this share of the files, I from 0; auto: a SLURM array task's share",
        "I/N", "0/1, all of them"),
    Option("task.fleet", "on", "one task of several at once; engine.merge ends what they began"),

    Option("run_dir", "text", "of the run's own files: ledger, log, summary", "DIR",
        "runs/<digest of inputs and adapter>"),
    Option("run.grace", "seconds", "longest drain after a stop signal", "SECONDS"),
    Option("run.dry_run", "on", "say what would be done, and do nothing"),
    Option("run.quiet", "on", "print only warnings, and how the run ended if not as it should"),
    Option("run.verbose", "on", "print the plan of memory too"),
    Option("run.log_level", "text", "of DIR/run.log", choices=LOG_LEVELS),
    Option("run.memory_trace", "text", "write each stage's memory over time, a JSON object a line", "FILE"),
)  # fmt: skip


def run_parser(
    command: str = "run",
    description: str = "Parse, embed and index a corpus into a vector database, in bounded memory.\n"
    "The same command again resumes, or does nothing where nothing changed.",
    examples: Mapping[str, str] = EXAMPLES,
    not_here: Sequence[str] = (),
) -> CommandParser:
    """The options of `engine.run`, for a command that takes them as well; its help leaves the fields
    `not_here` out."""
    parser = command_parser(command, description, examples, "INPUT... [--adapter URL] [options]")
    for group, heading in HEADINGS.items():
        add = parser.add_argument_group(heading)
        if group == "corpus":
            add.add_argument("inputs", nargs="*", metavar="INPUT", help="files and folders")
        add_options(add, (each for each in OPTIONS if each.group == group), not_here)
        if group == "corpus":
            add.add_argument("--help-formats", action=_Printed, nargs=0, const=lambda _: parsers.help_text(),
                help="print the formats that are read, and end")  # fmt: skip
        if group == "database":
            add.add_argument("--help-adapter", action=_Printed, const=adapters.help_text, metavar="SCHEME",
                help="print a database's options and what it can do, such as lancedb, and end")  # fmt: skip
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options with which every command loads models."""
    add_options(parser, (each for each in OPTIONS if each.field in MODEL_OPTIONS))


def add_options(
    parser: argparse._ActionsContainer, options: Iterable[Option], not_here: Sequence[str] = ()
) -> None:
    """Add them; each is found under the name of its field, with the field's default. The help leaves those
    `not_here` out."""
    for each in options:
        shown = f" (default {each.shown_default})" if each.shown_default else ""
        settings: dict[str, Any] = {"dest": each.field, "default": each.value}
        told = (each.help + shown).replace("%", "%%")
        settings["help"] = argparse.SUPPRESS if each.field in not_here else told
        if each.kind in ("on", "off"):
            settings["action"] = "store_true" if each.kind == "on" else "store_false"
        elif each.kind == "switch":
            settings["action"] = argparse.BooleanOptionalAction
        else:
            settings |= {"choices": each.choices} if each.choices else {"metavar": each.metavar}
            settings["type"] = _reader(each)
        if each.kind in ("texts", "pairs"):
            settings |= {"action": "append", "default": []}
        parser.add_argument(each.name, **settings)


def parse(argv: Sequence[str] | None = None) -> Config:
    """The configuration of a command line. Raises `UsageError`, and `SystemExit(0)` for --help, --version."""
    return from_arguments(run_parser().parse_intermixed_args(argv))


def from_arguments(args: argparse.Namespace) -> Config:
    """The configuration of what `run_parser` has parsed. Raises `UsageError`."""
    adapters.check(args.adapter)
    values = {each.field: _value(each, getattr(args, each.field)) for each in OPTIONS}
    named = values.pop("run_dir")
    values["inputs"] = tuple(sources.absolute(name) if name else "" for name in args.inputs)
    config = Config().changed(**values)
    if not config.corpus.inputs and config.corpus.files_from is None:
        raise UsageError("no INPUT: name at least one file or folder, or --files-from LIST")
    if "" in config.corpus.inputs:
        # An unset variable of a shell, which must not stand for the working folder.
        raise UsageError("INPUT '' is empty: name a file or folder; the working folder is .")
    check_backend(config.models.backend, config.models.device, config.models.dtype)
    if config.task.fleet:
        _check_fleet(config, named)
    folder = config.task.folder(Path(named)).absolute() if named else Path()
    return config.changed(run_dir=folder)


def _value(option: Option, found: Any) -> Any:
    """What the configuration holds for what the parser has found."""
    if option.kind == "texts":
        return tuple(found)
    if option.kind != "pairs":
        return found
    pairs = []
    for pair in found:
        name, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"{option.name} {pair}: give NAME=VALUE, the name of letters, digits and _")
        pairs.append((name, value))
    # Of constant fields the last one counts; a chunker's option that comes twice is refused.
    return sorted_pairs(dict(pairs)) if option.field == "fields" else tuple(sorted(pairs))


def _check_fleet(config: Config, run_dir: str | None) -> None:
    """What concerns the whole index is for the fleet's last job to do, and not for one of its tasks."""
    if run_dir is None:
        raise UsageError("--fleet: name the --run-dir that its tasks share")
    corpus = config.corpus
    for name, given in {"full": config.database.full, "prune": corpus.prune, "limit": corpus.limit}.items():
        if given:
            after = "; engine.merge --prune does it" if name == "prune" else ""
            raise UsageError(f"--fleet: not with --{name}, which one task alone can't do{after}")


class _Printed(argparse.Action):
    """Prints what its `const` gives for the option's value, and ends the command."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: str | None = None
    ) -> NoReturn:
        sys.stdout.write(self.const(values) + "\n")
        parser.exit()


def _reader(option: Option) -> Callable[[str], Any]:
    """What turns the option's text into its value."""
    readers: dict[str, Callable[[str], Any]] = {
        "count": count(option.least),
        "size": size(option.least, LEAST_MEMORY if option.group == "memory" else 0),
        "seconds": seconds,
        "device": _device,
        "shard": _shard,
    }
    return readers.get(option.kind, str)


def _device(text: str) -> str:
    try:
        return ModelConfig(device=text).device
    except UsageError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {DEVICES}") from None


def _shard(text: str) -> tuple[int, int]:
    if text == "auto":
        place = batch_job.place(os.environ)
        if place is None:
            raise argparse.ArgumentTypeError(
                "'auto' is for a task of a SLURM array without gaps, such as sbatch --array=0-7; give I/N"
            )
        return place
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N-1, such as 0/8")
    return int(match[1]), int(match[2])


def page() -> Iterator[str]:
    """docs/options.md, line by line."""
    yield "# Options of `engine.run`"
    yield ""
    yield "Made from the table in `engine/cli/options.py`: `python -m engine.cli.options > docs/options.md`."
    yield "Sizes are bytes, or take a unit (`256MiB`, `8GiB`); times are seconds."
    for group, heading in HEADINGS.items():
        yield from ("", f"## {heading.capitalize()}", "", "| option | meaning | default |", "|---|---|---|")
        if group == "corpus":
            yield "| `INPUT...` | files and folders | |"
        for each in OPTIONS:
            if each.group == group:
                yield _row(each)


def _row(option: Option) -> str:
    name = option.name.replace("--", "--[no-]", 1) if option.kind == "switch" else option.name
    shown = f"{name} {option.metavar}".strip()
    meaning = option.help
    if option.choices:
        meaning += ": " + ", ".join(f"`{choice}`" for choice in option.choices)
    return f"| `{shown}` | {meaning} | {option.shown_default.replace('<', '&lt;')} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in page())
