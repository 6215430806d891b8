"""Checks that all tasks of a fleet have the same inputs and number of shards, before a task starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from engine.config import Config
from engine.errors import UsageError
from engine.runtime.report.run_directory import shard_folders, shard_of_folder

#: The file in the fleet's directory with its inputs and number of shards, written by the first task.
IDENTITY = "fleet.json"

#: The words of an error for each of them.
_NAMES = {"inputs": "inputs ", "files_from": "--files-from ", "shards": "a number of shards of "}


def check_fleet(config: Config) -> None:
    """Raises `UsageError` where the run directory belongs to a fleet of other inputs or another number of
    shards."""
    shards = config.task.shard[1]
    folder = config.run_dir.parent.parent if shards > 1 or config.task.fleet else config.run_dir
    _check_numbers(folder, shards)
    known = _read(folder / IDENTITY)
    if known is None and shards == 1:
        return
    ours = {
        "inputs": sorted(
            os.fsencode(name).decode("utf-8", "backslashreplace") for name in config.corpus.inputs
        ),
        "files_from": config.corpus.files_from,
        "shards": shards,
    }
    if known is None:
        known = _write(folder, ours)
    for name, words in _NAMES.items():
        if ours[name] != known.get(name):
            raise UsageError(
                f"--run-dir {folder}: its fleet has {words}{_short(known.get(name))}, this command has"
                f" {_short(ours[name])}; use the same options, or name another --run-dir"
            )


def _check_numbers(folder: Path, shards: int) -> None:
    """Also where no task has written `fleet.json`: the folders' names tell."""
    for other in shard_folders(folder):
        number, total = shard_of_folder(other)
        if total != shards and (other / "ledger.sqlite").is_file():
            raise UsageError(
                f"--run-dir {folder}: it was started with {total} shards (shards/{number}-of-{total}), not"
                f" with {shards}: each file would change its shard; name another --run-dir"
            )
    if shards > 1 and (folder / "ledger.sqlite").is_file():
        raise UsageError(f"--run-dir {folder}: it was started without shards; name another --run-dir")


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error}); name another --run-dir") from None
    return content if isinstance(content, dict) else {}


def _write(folder: Path, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make the file, or find that another task was first; what is in it then."""
    temporary = folder / f".{IDENTITY}-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        # A link appears with its whole content, and to one task only, on network file systems too.
        with suppress(FileExistsError):
            os.link(temporary, folder / IDENTITY)
        temporary.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--run-dir {folder}: {reason}; name a directory that can be written") from None
    return _read(folder / IDENTITY) or {}


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) < 200 else text[:200] + "…") or "none"
