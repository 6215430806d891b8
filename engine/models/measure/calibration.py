"""Which way runs a model fastest on this CPU: measured once for each model and machine, then remembered.

Imports none of the libraries that are compared; `calibrate` does, in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from engine.models.backend import BackendChoice, machine
from engine.models.backends.onnx.cache import EXPORT_BYTES, locked
from engine.models.files.digest import cache_folder, recall, remember
from engine.models.helper import HelperError, ask
from engine.models.probes import FAITHFUL_IN_REDUCED_PRECISION
from engine.models.spec import ImageSpec, TextSpec

#: Changed with what is measured, or how.
FORM = "3"

#: Packages whose version may change what is fastest.
PACKAGES = ("torch", "onnxruntime", "openvino", "sentence-transformers", "transformers", "open-clip-torch")

#: Bytes of weights below which a model isn't worth measuring: it is fast in any way, and the run is short of
#: something else.
LEAST_WEIGHTS = 16 * 2**20

#: How many times as fast as a leaner way one must be to be taken, and the share of the room that it may need:
#: parsers and what is on its way want the rest.
WORTH, MOST_OF_ROOM = 1.25, 0.5


class Measured(TypedDict):
    """A way as it was measured, `why` it can't be had, or "".

    `gain` is how many times as fast as the first way it was, `rate` tokens or pictures a second of one core,
    `cosine` the least to the first way's vectors, `bytes` the memory with it less that without.
    """

    backend: str
    dtype: str
    gain: float
    rate: float
    cosine: float
    bytes: int
    why: str


def choose(
    spec: TextSpec | ImageSpec,
    possible: Sequence[BackendChoice],
    room: int | None = None,
    say: Callable[[str], None] | None = None,
) -> BackendChoice:
    """The fastest faithful way to run the model here that `room` bytes allow; the leanest comes first.

    It is measured now where it wasn't before, there is room for that, and the result can be kept; else the
    leanest is taken. `say` gets a line with the reason.
    """
    leanest = possible[0]
    if len(possible) == 1 or weight_bytes(spec) < LEAST_WEIGHTS:
        return leanest
    name = _name(spec)
    rows = _recalled(name)
    fresh = rows is None
    if rows is None:
        rows = _measured(spec, name, room, say)
    if rows is None:
        return leanest
    chosen = best(rows, possible, room)
    if say is not None:
        say(f"{_kind(spec)} model: {reason(rows, chosen, possible)}; {'measured' if fresh else 'cached'}")
    return chosen


def best(rows: Sequence[Measured], possible: Sequence[BackendChoice], room: int | None) -> BackendChoice:
    """Of the possible ways, leanest first, the last that is so much faster than a leaner one as it must be.

    What is not faithful, or needs too much of the room, is left out; the leanest always may.
    """
    measured = {BackendChoice(row["backend"], row["dtype"]): row for row in rows if not row["why"]}
    chosen = possible[0]
    gain = measured[chosen]["gain"] if chosen in measured else 0.0
    for way in possible[1:]:
        row = measured.get(way)
        # So written that a cosine that is no number doesn't pass.
        if row is None or not row["cosine"] >= FAITHFUL_IN_REDUCED_PRECISION:
            continue
        if room is not None and row["bytes"] > MOST_OF_ROOM * room:
            continue
        if row["gain"] >= WORTH * gain:
            chosen, gain = way, row["gain"]
    return chosen


def reason(rows: Sequence[Measured], chosen: BackendChoice, possible: Sequence[BackendChoice]) -> str:
    """The way that was chosen, and how it compares, in a few words."""
    gains = {BackendChoice(row["backend"], row["dtype"]): row["gain"] for row in rows if not row["why"]}
    reference, mine = possible[0], gains.get(chosen, 0.0)
    if chosen != reference and gains.get(reference):
        return f"{chosen}, {mine / gains[reference]:.1f} x {reference} on this CPU"
    faster = [str(way) for way in possible if gains.get(way, 0.0) >= WORTH * mine and way != chosen]
    if faster:
        return f"{chosen}; {' and '.join(faster)} would be faster here, but not faithful, or too large"
    return f"{chosen}, which no other way beats by enough on this CPU"


def weight_bytes(spec: TextSpec | ImageSpec) -> int:
    """Bytes of the model's largest file: its weights, or the largest part of them."""
    if spec.folder is None:
        return 0
    folder = Path(spec.folder)
    if isinstance(spec, ImageSpec) and spec.weights_file is not None:
        return (folder / spec.weights_file).stat().st_size
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)


def _kind(spec: TextSpec | ImageSpec) -> str:
    return "text" if isinstance(spec, TextSpec) else "image"


def _name(spec: TextSpec | ImageSpec) -> str:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    key = json.dumps([FORM, versions, machine()], sort_keys=True)
    return f"calibration/{spec.digest[:32]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"


def _recalled(name: str) -> list[Measured] | None:
    try:
        rows: list[Measured] = json.loads(recall(name) or "")["ways"]
    except (ValueError, KeyError, TypeError):
        return None
    return rows


def _measured(
    spec: TextSpec | ImageSpec, name: str, room: int | None, say: Callable[[str], None] | None
) -> list[Measured] | None:
    """Measure and remember. None where there is no room for it, it fails, or it can't be remembered."""
    if room is not None and room < EXPORT_BYTES + 2 * weight_bytes(spec):
        return None
    path = cache_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            return None
        if say is not None:
            say(f"model {spec.name}: measuring which library runs it fastest here, once, in some 20 seconds")
        with locked(path.with_suffix(".lock")):
            # Another process may have measured it in the meantime.
            rows = _recalled(name)
            if rows is None:
                rows = ask("engine.models.measure.calibrate", spec)["ways"]
                found = {"name": spec.name, "model": spec.digest, "machine": machine(), "ways": rows}
                remember(name, json.dumps(found, indent=1) + "\n")
    except OSError:
        return None
    except HelperError as error:
        if say is not None:
            say(f"model {spec.name}: what is fastest could not be measured: that {error}")
        return None
    return rows
