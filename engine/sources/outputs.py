"""What the engine itself writes, and never lists: run directories, indexes in local folders, caches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path

import adapters
from engine.records import OUTPUT_MARKER, OUTPUT_NOTE

#: The rule by which the engine's own files are left out.
ENGINE_OUTPUT = "engine-output"

#: What a run directory of an engine that wrote no marker has in it.
_UNMARKED = ("ledger.sqlite", "lock")

#: The name of a shard's folder, in `shards/`.
SHARD = re.compile(r"(\d+)-of-(\d+)")

#: Folders of which it is remembered whether they are in the engine's own.
_REMEMBERED = 256


def shared_folder(run_dir: Path) -> Path:
    """The folder of all shards for the run directory of one; else the run directory itself."""
    is_shard = run_dir.parent.name == "shards" and SHARD.fullmatch(run_dir.name)
    return run_dir.parent.parent if is_shard else run_dir


def mark(run_dir: Path) -> None:
    """Make a folder known as a run directory, and the one of all shards with a shard's. Raises `OSError`."""
    for folder in {run_dir, shared_folder(run_dir)}:
        if not (folder / OUTPUT_MARKER).exists():
            (folder / OUTPUT_MARKER).write_text(OUTPUT_NOTE, encoding="utf-8")


class Outputs:
    """Knows the engine's own files and folders: these absolute `paths`, all run directories and caches, and
    whatever a database says is an index of its own."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths = frozenset(paths)
        self._around = lru_cache(_REMEMBERED)(self._found_around)

    @cached_property
    def _databases(self) -> tuple[adapters.IsIndex, ...]:
        return tuple(adapters.index_finders())

    def has(self, path: str, folder: bool) -> bool:
        """Whether this is the engine's own; all that lies below such a folder is, too."""
        if path in self._paths or (folder and _is_own_folder(path)):
            return True
        return any(is_index(path, folder) for is_index in self._databases)

    def around(self, path: str, is_folder: bool) -> str | None:
        """What is the engine's own and holds this path, or is it; None where nothing does."""
        if is_folder:
            return self._around(path)
        return path if self.has(path, False) else self._around(os.path.dirname(path))

    def _found_around(self, folder: str) -> str | None:
        if self.has(folder, True):
            return folder
        above = os.path.dirname(folder)
        return None if above == folder else self._around(above)


def _is_own_folder(folder: str) -> bool:
    return os.path.exists(f"{folder}/{OUTPUT_MARKER}") or all(
        os.path.exists(f"{folder}/{name}") for name in _UNMARKED
    )
