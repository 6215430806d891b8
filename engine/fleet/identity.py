"""What the tasks of one fleet have in common; a task that has something else is refused before it begins."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config import Config
from engine.errors import UsageError
from engine.fleet.shared import RealFolder
from engine.fleet.table import read_table
from engine.repair.books import shard_folders, shard_of_folder

#: In the fleet's directory: what its tasks have in common, written by the first of them.
IDENTITY = "fleet.json"


def fleet_folder(config: Config) -> Path:
    """The directory that was named by `--run-dir`, in which each task of several has its own."""
    own = config.task.shard[1] > 1 or config.task.fleet
    return config.run_dir.parent.parent if own else config.run_dir


def check_cut(config: Config) -> None:
    """Raises `UsageError` where the task takes a shard of a manifest that was cut into another number."""
    if config.task.manifest is None or config.task.lease:
        return
    (number, tasks), cut = config.task.shard, read_table(Path(config.task.manifest))["tasks"]
    if tasks != cut:
        raise UsageError(
            f"--shard {number}/{tasks}: {config.task.manifest} was cut into {cut} shards; give I/{cut}, or"
            f" plan again with --shards {tasks}"
        )


def check_fleet(config: Config) -> None:
    """Raises `UsageError` where the run directory belongs to a fleet of other inputs, another manifest or
    another number of shards."""
    # First: what is refused for that must not say for ever what the fleet is.
    check_cut(config)
    folder = fleet_folder(config)
    several = config.task.shard[1] > 1 or config.task.manifest is not None
    _check_numbers(folder, config.task.shard[1])
    known = _read(folder / IDENTITY)
    if known is None and not several:
        return
    ours = _identity(config)
    if known is None:
        known = _write(folder, ours)
    for name, told in _TOLD.items():
        if ours[name] != known.get(name):
            raise UsageError(
                f"--run-dir {folder}: its fleet has {told}{_short(known.get(name))}, this command has"
                f" {_short(ours[name])}: what is there could not go on; name another --run-dir"
            )


#: In what words each thing in common is told.
_TOLD = {
    "inputs": "inputs ",
    "files_from": "--files-from ",
    "shards": "a number of shards of ",
    "manifest": "a manifest of digest ",
    "lease": "--lease ",
}


def _identity(config: Config) -> dict[str, Any]:
    manifest = None if config.task.manifest is None else read_table(Path(config.task.manifest))["digest"]
    return {
        "inputs": sorted(
            os.fsencode(name).decode("utf-8", "backslashreplace") for name in config.corpus.inputs
        ),
        "files_from": config.corpus.files_from,
        "shards": config.task.shard[1],
        "manifest": manifest,
        "lease": config.task.lease,
    }


def _check_numbers(folder: Path, shards: int) -> None:
    """Also where no task has written `fleet.json`: the folders' names tell."""
    for other in shard_folders(folder):
        number, total = shard_of_folder(other)
        if total != shards and (other / "ledger.sqlite").is_file():
            raise UsageError(
                f"--run-dir {folder}: it was begun with {total} shards (shards/{number}-of-{total}), not with"
                f" {shards}: each file would change its shard; name another --run-dir"
            )
    if shards > 1 and (folder / "ledger.sqlite").is_file():
        raise UsageError(
            f"--run-dir {folder}: it was begun by one run without shards; name another --run-dir"
        )


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
    try:
        RealFolder(folder).create(IDENTITY, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--run-dir {folder}: {reason}; name a directory that can be written") from None
    return _read(folder / IDENTITY) or {}


def _short(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) < 200 else text[:200] + "…") or "none"
