"""The Python interface over the engine's own processes: parallel, resumable, with a ledger."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import adapters
from engine.api.arguments import in_python
from engine.api.embedding import EmbeddingModel, EmbedSummary, Failure, TextEmbedConfig, the_config
from engine.cli.parser import parse_bytes
from engine.config import (
    Config,
    CorpusConfig,
    DatabaseConfig,
    MemoryConfig,
    ModelConfig,
    ParsingConfig,
    RunConfig,
    sorted_pairs,
)
from engine.errors import EXIT_DONE, EXIT_FAILURES, EngineError, UsageError
from engine.machine.environment import CHILD_ENVIRONMENT
from engine.runtime.report.summary import Summary, read_summary


def run_processes(
    folder: str,
    include: Sequence[str],
    model: EmbeddingModel,
    config: TextEmbedConfig | None,
    url: object,
    workers: int,
    run_dir: str | None,
    max_ram: int | str | None = None,
    quiet: bool = True,
) -> EmbedSummary:
    """Run the engine over a folder as `engine.run` does, quietly.

    Raises `UsageError` where it can't work as asked and `EngineError` where the run ends early; the same call
    then goes on from there.
    """
    if not isinstance(url, str):
        raise UsageError("workers: give adapter= as a URL, because another process opens the database")
    if url.startswith("memory://"):
        raise UsageError(f"workers: {url} would live and die with another process; name a real database")
    if not isinstance(workers, int):
        raise UsageError(f"workers={workers!r}: give a whole number of at least 1")
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("workers: call this from the main thread, because a run handles signals")
    config = the_config(config)
    settings = _configuration(folder, include, model, config, url, workers, run_dir, max_ram, quiet)
    # Imported late: a call without workers needs no process.
    from engine.runtime.supervisor import Supervisor

    with _environment(CHILD_ENVIRONMENT), _main_module_hidden():
        code = Supervisor(settings).run()
    if code not in (EXIT_DONE, EXIT_FAILURES):
        raise EngineError(
            f"the run ended early (exit code {code}); the same call goes on from there;"
            f" its log is {settings.run_dir / 'run.log'}"
        )
    return _summary(settings.run_dir)


def _configuration(
    folder: str,
    include: Sequence[str],
    model: EmbeddingModel,
    config: TextEmbedConfig,
    url: str,
    workers: int,
    run_dir: str | None,
    max_ram: int | str | None = None,
    quiet: bool = True,
) -> Config:
    """The configuration of the same run. Raises `UsageError`."""
    adapters.check(url)
    return Config(
        CorpusConfig((os.path.abspath(folder),), include=tuple(include)),
        ParsingConfig(
            config.chunker,
            config.chunk_size,
            config.overlap,
            sorted_pairs(config.chunker_options),
            images=config.images,
            exact_images=config.exact_images,
        ),
        ModelConfig(
            model.text_model,
            model.image_model,
            model.trust_remote_code,
            model.backend,
            model.device,
            model.dtype,
        ),
        DatabaseConfig(url, sorted_pairs(config.fields)),
        MemoryConfig(workers, _bytes(max_ram)),
        run=RunConfig(quiet=quiet),
        run_dir=Path(run_dir).absolute() if run_dir is not None else Path(),
    )


def _bytes(max_ram: int | str | None) -> int | None:
    """A size as bytes. Raises `UsageError`."""
    if max_ram is None or isinstance(max_ram, int):
        return max_ram
    try:
        return parse_bytes(max_ram)
    except (ValueError, AttributeError):
        raise UsageError(f"--max-ram {max_ram!r}: give bytes, or a size such as '8GiB'") from None


def _summary(run_dir: Path) -> EmbedSummary:
    summary = read_summary(run_dir) or Summary()
    files, chunks = summary.files, summary.chunks
    with open(run_dir / "skipped.jsonl", encoding="utf-8") as lines:
        skipped = Counter(json.loads(line)["rule"] for line in lines)
    names = ("source", "page", "stage", "error_type", "message")
    with open(run_dir / "failures.jsonl", encoding="utf-8") as lines:
        told_of = (Failure(*(failure[name] for name in names)) for failure in map(json.loads, lines))
        failures = [replace(failure, message=in_python(failure.message)) for failure in told_of]
    return EmbedSummary(
        files=files.indexed + files.partial,
        unchanged=files.unchanged,
        records=chunks.indexed,
        text=chunks.text,
        image=chunks.image,
        tokens=summary.tokens,
        seconds=summary.seconds,
        skipped=dict(skipped),
        failures=failures,
    )


@contextmanager
def _environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Variables for the children, as far as the caller hasn't set them."""
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep spawned processes from importing the caller's main module.

    `multiprocessing` has each new process run that module again, found by its `__spec__` or its `__file__`
    (multiprocessing/spawn.py, `get_preparation_data`), so that a script without `if __name__ == "__main__"`
    would call itself for ever. Nothing that is sent to the engine's processes is defined there, so both are
    taken away while processes may be started.
    """
    main = sys.modules["__main__"]
    names = ("__spec__", "__file__")
    hidden: dict[str, object] = {name: vars(main)[name] for name in names if name in vars(main)}
    main.__spec__ = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        vars(main).update(hidden)
