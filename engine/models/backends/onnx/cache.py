"""Exported models in the user's cache: each is made once by a separate process, and checked."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.models.backends.base import CannotRunError, Say
from engine.models.cache import cache_folder, locked, make_folder
from engine.models.files.digest import file_digest
from engine.models.helper import HelperError, ask
from engine.models.measure import costs
from engine.models.spec import ImageSpec, TextSpec

#: The graph, the weights that it refers to (mapped, not read, so that only what is used takes memory), and
#: what is known of both: digests, versions, how near the vectors are to torch's, or why there is no graph.
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"
REPORT_FILE = "export.json"

#: The version of the exported form.
FORM = "5"

#: Packages whose version may change what is exported, or whether it can be.
PACKAGES = {
    "text": ("onnx", "onnxruntime", "torch", "transformers", "sentence-transformers"),
    "image": ("onnx", "onnxruntime", "torch", "open-clip-torch"),
}

#: Exports by folder that failed in this process for a reason that may pass; this process does not retry.
_failed: dict[Path, str] = {}

#: Bytes that an export of a small model takes at most, most of them torch's (measured: 1.3 GiB with 87 MiB of
#: weights, 1.9 GiB with 327 MiB); and how often a larger one's weights are held beside them: by torch, by the
#: traced graph and its protobuf message.
EXPORT_BYTES, WEIGHT_COPIES = 1536 * 2**20, 3


def exported(spec: TextSpec | ImageSpec, memory_limit: int | None = None, say: Say | None = None) -> Path:
    """The folder of the model's ONNX export, made now where it is missing or damaged.

    Raises `CannotRunError` where the model can't be exported or its vectors would be others; that is
    remembered too, until a package changes. `say` gets a line before an export begins. `UsageError` where
    it would have to be made in a `memory_limit` of fewer bytes than `export_bytes`.
    """
    versions = _versions(spec)
    folder = _folder(spec, versions)
    if folder in _failed:
        raise CannotRunError(_failed[folder])
    report = _read(folder)
    if report is None:
        if memory_limit is not None and memory_limit < (needed := export_bytes(spec)):
            raise UsageError(
                f"model {spec.name} has to be exported to ONNX once, which takes {needed / 2**30:.3g} GiB"
                f" for some seconds, and {memory_limit / 2**30:.2f} GiB of --max-ram are left for it: run"
                " once with more --max-ram, or choose another --backend"
            )
        if say is not None:
            say(f"model {spec.name}: exporting to ONNX, once, in some {costs.expected('export'):.0f} seconds")
        try:
            make_folder(folder.parent)
            with locked(folder.with_suffix(".lock")):
                # Another process may have made it in the meantime.
                report = _read(folder) or _make(spec, versions, folder)
        except OSError as error:
            raise CannotRunError(f"the ONNX export can't be written to {folder.parent}: {error}") from error
    if "why" in report:
        raise CannotRunError(str(report["why"]))
    return folder


def export_bytes(spec: TextSpec | ImageSpec) -> int:
    """Bytes that the export of this model takes at most."""
    return max(EXPORT_BYTES, EXPORT_BYTES * 3 // 4 + WEIGHT_COPIES * costs.weight_bytes(spec))


def is_exported(spec: TextSpec | ImageSpec) -> bool:
    """Whether `exported` would answer at once, be it with the reason why it can't."""
    try:
        folder = _folder(spec, _versions(spec))
    except CannotRunError:
        return True
    return folder in _failed or _read(folder) is not None


def _folder(spec: TextSpec | ImageSpec, versions: dict[str, str]) -> Path:
    made_by = hashlib.sha256(json.dumps([FORM, versions]).encode()).hexdigest()
    return cache_folder() / "onnx" / f"{spec.digest[:32]}-{made_by[:8]}"


def _versions(spec: TextSpec | ImageSpec) -> dict[str, str]:
    packages = PACKAGES["text" if isinstance(spec, TextSpec) else "image"]
    try:
        return {package: version(package) for package in packages}
    except PackageNotFoundError as error:
        raise CannotRunError(f"the package {error.name} is not installed") from error


def _read(folder: Path) -> dict[str, Any] | None:
    """The report of a complete export, or of one that failed permanently; None for anything else."""
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
        digests = {name: file_digest(folder / name) for name in report["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if digests == report["files"] else None


def _make(spec: TextSpec | ImageSpec, versions: dict[str, str], folder: Path) -> dict[str, Any]:
    for left in folder.parent.glob(f"{folder.name}.*/"):
        shutil.rmtree(left, ignore_errors=True)  # by one that was killed: this one has the lock
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        try:
            found = _export(spec, made)
        except HelperError as error:
            # Killed, or out of memory or disk: another process may succeed.
            _failed[folder] = f"its export {error}"
            raise CannotRunError(_failed[folder]) from error
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
    found = ask("engine.models.backends.onnx.export", spec, str(folder))
    costs.remember("export", found.pop("cpu_s"))
    return found
