"""The engine in Python: its stages as generators in the caller's process, or its processes with `workers=`.

Records have the ids that `engine.run` gives them for the same file, model and chunk size, so that both can
fill one index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeAlias, overload

import numpy as np

from adapters.base import Adapter
from engine import parsers
from engine.api.arguments import naming_arguments
from engine.api.embedding import (
    EmbeddingModel,
    EmbedSummary,
    EmbedWarning,
    Failure,
    TextEmbedConfig,
    the_model,
    warn,
)
from engine.api.held import Content, HeldInput, items_of
from engine.api.in_process import Call, OnFailure
from engine.api.progress import DELAY_S, Progress, watched
from engine.errors import SkipFileError, UsageError
from engine.models.load import CaptionEmbedder, TextEmbedder
from engine.parsers.reading import Opened
from engine.records import Kind, Record, Vector
from engine.sources import Corpus, check_inputs, open_item
from engine.sources.base import Found, Item, Rules

__all__ = [
    "EmbedSummary",
    "EmbedWarning",
    "EmbeddingModel",
    "Failure",
    "TextEmbedConfig",
    "embed_directory",
    "embed_file",
    "embed_image_directory",
    "embed_items",
    "embed_query",
    "embed_texts",
]

Path: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = EmbeddingModel | str


@naming_arguments
def embed_texts(texts: str | Sequence[str], model: Model) -> Vector:
    """The vectors of texts as documents, float32 [n, dimensions]; of one text, float32 [dimensions].

    They equal what `SentenceTransformer.encode_document` gives (`encode`, for a model without a prompt for
    documents): a text that is longer than the model's largest input is cut off there. `model` is an
    `EmbeddingModel` or a text model's name. Raises `UsageError`.
    """
    embedding = the_model(model)
    given = _texts("texts", texts)
    with embedding.lock:
        vectors = embedding.load_text().embed_texts(given)
    return vectors[0] if isinstance(texts, str) else vectors


@naming_arguments
def embed_query(query: str | Sequence[str], model: Model, kind: Kind = "text") -> Vector:
    """The vector of a query, float32 [dimensions]; of several, float32 [n, dimensions].

    `kind` "image" takes the image model's text tower, whose vectors lie near those of pictures. `model` is an
    `EmbeddingModel` or a text model's name. Raises `UsageError`, also for an empty query.
    """
    if kind not in ("text", "image"):
        raise UsageError(f"kind={kind!r}: give 'text' or 'image'")
    embedding = the_model(model)
    given = _texts("query", query)
    for text in given:
        if not text.strip():
            raise UsageError("query: is empty; give at least one word")
    with embedding.lock:
        embedder: TextEmbedder | CaptionEmbedder
        embedder = embedding.load_text() if kind == "text" else embedding.load_caption()
        vectors = np.empty((len(given), embedder.spec.dimensions), dtype=np.float32)
        for row, text in enumerate(given):
            vectors[row] = embedder.embed_query(text)
    return vectors[0] if isinstance(query, str) else vectors


@overload
def embed_file(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: None = None,
    *,
    on_failure: OnFailure | None = None,
) -> Iterator[Record]: ...
@overload
def embed_file(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    *,
    adapter: str | Adapter,
    on_failure: OnFailure | None = None,
) -> EmbedSummary: ...
@naming_arguments
def embed_file(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: str | Adapter | None = None,
    *,
    on_failure: OnFailure | None = None,
) -> Iterator[Record] | EmbedSummary:
    """The records of one file, made as they are asked for; with `adapter` they are written there instead.

    Raises `ParseError` where nothing of the file can be embedded or its end can't be had (after the records
    that could be made), `SkipFileError` where a rule leaves it out, `UsageError` for anything that can't
    work. Pages that fail alone are told as in `embed_directory`.
    """
    name = _input(path, folder=False)
    call = Call(the_model(model), config, on_failure, strict=True)
    found = Corpus([name])
    if adapter is None:
        return call.records(found)
    return call.stream(found, adapter, _kind_of(parsers.LocalFile(name), name))


@overload
def embed_directory(
    path: Path,
    model: Model,
    extensions: Sequence[str] | None = None,
    config: TextEmbedConfig | None = None,
    adapter: None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
) -> Iterator[Record]: ...
@overload
def embed_directory(
    path: Path,
    model: Model,
    extensions: Sequence[str] | None = None,
    config: TextEmbedConfig | None = None,
    *,
    adapter: str | Adapter,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    run_dir: Path | None = None,
    max_ram: int | str | None = None,
) -> EmbedSummary: ...
@naming_arguments
def embed_directory(
    path: Path,
    model: Model,
    extensions: Sequence[str] | None = None,
    config: TextEmbedConfig | None = None,
    adapter: str | Adapter | None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    run_dir: Path | None = None,
    max_ram: int | str | None = None,
) -> Iterator[Record] | EmbedSummary:
    """The records of a folder's files, made as they are asked for; with `adapter` they are written there.

    `extensions` such as `["pdf", ".md"]` choose files by the end of their names. A file or page that can't
    be embedded is given to `on_failure`; without one it is an `EmbedWarning`, or with `adapter` an entry of
    the summary's `failures`. Written records stay when files change or go: that is for `engine.run`, or for
    `workers`, which runs the engine's own processes with their ledger in `run_dir`, all of them together in
    `max_ram` (bytes, or a size such as "8GiB").

    `progress` shows a bar: True always, None where something is written and somebody watches (a notebook, a
    terminal).
    """
    name = _input(path, folder=True)
    include = _globs(extensions)
    if workers is not None:
        processes = (workers, run_dir, max_ram, progress)
        return _with_workers(name, include, the_model(model), config, adapter, on_failure, processes)
    bar = _progress(progress, adapter, Corpus([name], rules=Rules(include)))
    call = Call(the_model(model), config, on_failure, progress=bar)
    found = Corpus([name], rules=Rules(include))
    return call.records(found) if adapter is None else call.stream(found, adapter, "text")


@overload
def embed_image_directory(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
) -> Iterator[Record]: ...
@overload
def embed_image_directory(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    *,
    adapter: str | Adapter,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    run_dir: Path | None = None,
    max_ram: int | str | None = None,
) -> EmbedSummary: ...
@naming_arguments
def embed_image_directory(
    path: Path,
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: str | Adapter | None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    run_dir: Path | None = None,
    max_ram: int | str | None = None,
) -> Iterator[Record] | EmbedSummary:
    """As `embed_directory`, for the pictures of a folder alone: files with the suffix of a picture, of which
    the content then has the last word."""
    name = _input(path, folder=True)
    include = _globs(parsers.suffixes("image"))
    if workers is not None:
        processes = (workers, run_dir, max_ram, progress)
        return _with_workers(name, include, the_model(model), config, adapter, on_failure, processes)
    bar = _progress(progress, adapter, Corpus([name], rules=Rules(include)))
    call = Call(the_model(model), config, on_failure, pictures_only=True, progress=bar)
    found = Corpus([name], rules=Rules(include))
    return call.records(found) if adapter is None else call.stream(found, adapter, "image")


@overload
def embed_items(
    items: Iterable[HeldInput] | Mapping[str, str | Content],
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
) -> Iterator[Record]: ...
@overload
def embed_items(
    items: Iterable[HeldInput] | Mapping[str, str | Content],
    model: Model,
    config: TextEmbedConfig | None = None,
    *,
    adapter: str | Adapter,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
) -> EmbedSummary: ...
@naming_arguments
def embed_items(
    items: Iterable[HeldInput] | Mapping[str, str | Content],
    model: Model,
    config: TextEmbedConfig | None = None,
    adapter: str | Adapter | None = None,
    *,
    on_failure: OnFailure | None = None,
    progress: bool | None = None,
) -> Iterator[Record] | EmbedSummary:
    """The records of what lies in no file: bytes, pictures, and (name, content) pairs, where content may be a
    text too. Items are asked for one after another.

    A picture is a `PIL.Image`, or uint8 [height, width], [height, width, 3] or [height, width, 4]; it is
    brought upright and made RGB. Everything else is parsed as a file of that name would be. `source` is
    `memory://NAME`; without a name it is called by the SHA-256 of its content, so that the same items give
    the same records. The rest is as in `embed_directory`.
    """
    found = items_of(items)
    call = Call(the_model(model), config, on_failure, progress=_progress(progress, adapter))
    if adapter is None:
        return call.records(found)
    first = next(found, None)
    kind: Kind = "text"
    if isinstance(first, Item):
        with open_item(first) as opened:
            kind = _kind_of(opened, first.location)
    return call.stream(found if first is None else chain([first], found), adapter, kind)


def _with_workers(
    folder: str,
    include: Sequence[str],
    model: EmbeddingModel,
    config: TextEmbedConfig | None,
    adapter: object,
    on_failure: OnFailure | None,
    processes: tuple[int, Path | None, int | str | None, bool | None],
) -> EmbedSummary:
    from engine.api.workers import run_processes

    workers, run_dir, max_ram, progress = processes
    place = None if run_dir is None else os.fspath(run_dir)
    quiet = not (watched() if progress is None else progress)
    summary = run_processes(folder, include, model, config, adapter, workers, place, max_ram, quiet)
    if on_failure is not None:
        for failure in summary.failures:
            on_failure(failure)
    return summary


def _input(path: Path, folder: bool) -> str:
    """The absolute path. Raises `UsageError` where it is not there, or the other kind of thing."""
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(
            f"path: is of type {type(path).__name__}; give a path, or what lies in no file to embed_items"
        )
    name = os.path.abspath(os.fspath(path))
    check_inputs([name], None)
    if os.path.isdir(name) != folder:
        hint = "a file: use embed_file" if folder else "a folder: use embed_directory"
        raise UsageError(f"{name}: {hint}")
    return name


def _texts(argument: str, texts: object) -> list[str]:
    """One text or several as a list. Raises `UsageError` for anything else."""
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable) or isinstance(texts, bytes):
        raise UsageError(f"{argument}: is of type {type(texts).__name__}; give a text, or a list of texts")
    given = list(texts)
    for position, text in enumerate(given):
        if not isinstance(text, str):
            raise UsageError(f"{argument}[{position}]: is of type {type(text).__name__}; give texts")
    return given


def _progress(
    asked: bool | None, adapter: str | Adapter | None, ahead: Iterable[Found] | None = None
) -> Progress:
    if asked is None:
        return Progress(adapter is not None and watched(), ahead, DELAY_S)
    return Progress(asked, ahead)


def _kind_of(opened: Opened, name: str) -> Kind:
    try:
        kinds = parsers.kinds_of(parsers.detect(opened, name))
        return "text" if "text" in kinds else "image"
    except (OSError, SkipFileError):
        return "text"  # what is wrong with the file is told when it is parsed


def _globs(extensions: Sequence[str] | None) -> list[str]:
    """Patterns for names that end so, in upper or lower case. Raises `UsageError`."""
    if extensions is None:
        return []
    wanted = [extensions] if isinstance(extensions, str) else list(extensions)
    if not wanted:
        raise UsageError("extensions: empty; name some, such as ['pdf', 'md'], or None for every file")
    patterns = []
    for extension in wanted:
        if not isinstance(extension, str):
            raise UsageError(f"extensions: {extension!r} is of type {type(extension).__name__}; give texts")
        ending = extension.removeprefix("*").removeprefix(".")
        if not re.fullmatch(r"[\w.+#~-]+", ending):
            raise UsageError(f"extensions: {extension!r} is not the end of a name such as 'pdf' or '.md'")
        if _has_no_parser(ending):
            warn(f"extensions: no parser reads {ending} files")
        patterns.append("*." + "".join(f"[{letter.lower()}{letter.upper()}]" for letter in ending))
    return patterns


def _has_no_parser(ending: str) -> bool:
    """Whether files whose names end so have a known binary format that no parser declares."""
    import filetype

    suffix = ending.rpartition(".")[2].lower()
    return not parsers.type_by_name(f"x.{suffix}") and filetype.get_type(ext=suffix) is not None
