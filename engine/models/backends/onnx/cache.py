"""Exported models in the user's cache: made once by a process of their own, checked, then found again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.models.files.digest import cache_folder, file_digest
from engine.models.helper import DEADLINE_S, HelperError, ask
from engine.models.spec import ImageSpec, TextSpec

#: The graph, the weights that it refers to (mapped, not read, so that only what is used takes memory), and
#: what is known of both: digests, versions, how near the vectors are to torch's, or why there is no graph.
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"
REPORT_FILE = "export.json"

#: Changed with the form of what is exported.
FORM = "5"

#: Packages whose version may change what is exported, or whether it can be.
PACKAGES = {
    "text": ("onnx", "onnxruntime", "torch", "transformers", "sentence-transformers"),
    "image": ("onnx", "onnxruntime", "torch", "open-clip-torch"),
}

#: Bytes that an export of a small model takes at most, most of them torch's (measured: 1.3 GiB).
EXPORT_BYTES = 1536 * 2**20

#: Seconds between two looks at whether another process is still at it.
LOOK_S = 0.1


class NotExportedError(Exception):
    """There is no ONNX form of the model; the text says why, as the end of "… because"."""


def exported(
    spec: TextSpec | ImageSpec, room: int | None = None, say: Callable[[str], None] | None = None
) -> Path:
    """The folder of the model's ONNX form, made now where it isn't there or is damaged.

    Raises `NotExportedError` where the model can't be exported or its vectors would be others; that is
    remembered too, until a package changes. `say` gets a line before an export begins. `UsageError` where
    it would have to be made in less than `EXPORT_BYTES` of `room`, in bytes.
    """
    versions = _versions(spec)
    made_by = hashlib.sha256(json.dumps([FORM, versions]).encode()).hexdigest()
    folder = cache_folder() / "onnx" / f"{spec.digest[:32]}-{made_by[:8]}"
    report = _read(folder)
    if report is None:
        if room is not None and room < EXPORT_BYTES:
            raise UsageError(
                f"model {spec.name} has to be exported for ONNX Runtime once, which takes"
                f" {EXPORT_BYTES / 2**30:g} GiB for some seconds, and {room / 2**30:.2f} GiB of --max-ram are"
                " left for it: run once with more, or with --backend torch"
            )
        if say is not None:
            say(f"model {spec.name} is exported for ONNX Runtime, once, which takes some 20 seconds")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with locked(folder.with_suffix(".lock")):
                # Another process may have made it in the meantime.
                report = _read(folder) or _make(spec, versions, folder)
        except OSError as error:
            raise NotExportedError(f"no ONNX form could be kept in {folder.parent}: {error}") from error
    if "why" in report:
        raise NotExportedError(str(report["why"]))
    return folder


def _versions(spec: TextSpec | ImageSpec) -> dict[str, str]:
    packages = PACKAGES["text" if isinstance(spec, TextSpec) else "image"]
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise NotExportedError(f"the package {error.name} is not installed") from error


def _read(folder: Path) -> dict[str, Any] | None:
    """The report of a whole, undamaged export, or of one that failed for good; None for anything else."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        digests = {name: file_digest(folder / name) for name in report["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if digests == report["files"] else None


def _make(spec: TextSpec | ImageSpec, versions: dict[str, str], folder: Path) -> dict[str, Any]:
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        found = _export(spec, made)
        files = [] if "why" in found else [MODEL_FILE, WEIGHTS_FILE]
        report = {
            "name": spec.name,
            "model": spec.digest,
            "versions": versions,
            "files": {name: file_digest(made / name) for name in files},
            **found,
        }
        (made / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        # A reader sees the whole folder or none.
        made.rename(folder)
        return report
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _export(spec: TextSpec | ImageSpec, folder: Path) -> dict[str, Any]:
    try:
        return ask("engine.models.backends.onnx.export", spec, str(folder))
    except HelperError as error:
        # Killed, or out of memory or disk: that may be another next time, so it is not remembered.
        raise NotExportedError(f"its export {error}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file; where another process holds it for too long, or files can't be locked, go on."""
    with path.open("w") as stream:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOOK_S)
                continue
            except OSError:
                break
            break
        yield
