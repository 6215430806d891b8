"""Which backend runs a model fastest on this CPU: measured once for each model and machine, then remembered.

Imports none of the libraries that are compared; `calibrate` does, in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from engine.machine.processor import machine
from engine.models import backends
from engine.models.backends.base import BackendChoice, Say, Spec
from engine.models.cache import cache_folder, locked, make_folder, recall, remember
from engine.models.helper import HelperError, ask
from engine.models.measure import costs
from engine.models.probes import FAITHFUL_IN_REDUCED_PRECISION
from engine.models.spec import TextSpec

#: Changed with what is measured, or how.
FORM = "4"

#: Bytes of weights below which a model isn't worth measuring: it is fast by any backend, and the run is short
#: of something else.
LEAST_WEIGHTS = 16 * 2**20

#: How many times as fast as a leaner choice one must be to be taken, and the share of the memory limit that
#: it may need: parsers and what is in flight want the rest.
WORTH, MOST_OF_LIMIT = 1.25, 0.5


class Measured(TypedDict):
    """A choice as it was measured; `why` it can't run the model, or "".

    `gain` is how many times as fast as the first choice it was, `rate` tokens or pictures a second of one
    core, `cosine` the least to the first choice's vectors, `bytes` the memory with it less that without.
    """

    backend: str
    dtype: str
    gain: float
    rate: float
    cosine: float
    bytes: int
    why: str


def choose(
    spec: Spec,
    possible: Sequence[BackendChoice],
    memory_limit: int | None = None,
    say: Say | None = None,
) -> BackendChoice:
    """The fastest faithful choice for the model that `memory_limit` bytes allow; the leanest comes first.

    It is measured now where it wasn't before, there is memory for that, and the result can be kept; else the
    leanest is taken. `say` gets a line with the reason.
    """
    if not is_worth(spec, possible):
        return possible[0]
    if (found := known(spec, possible, memory_limit)) is not None:
        chosen, why, how = *found, "cached"
    else:
        rows = _measured(spec, possible, memory_limit, say)
        if rows is None:
            return possible[0]
        chosen = best(rows, possible, memory_limit)
        why, how = reason(rows, chosen, possible), "measured"
    if say is not None:
        say(f"{'text' if isinstance(spec, TextSpec) else 'image'} model: {why}; {how}")
    return chosen


def is_worth(spec: Spec, possible: Sequence[BackendChoice]) -> bool:
    """Whether there is anything to measure, of a model that is large enough for it."""
    return len(possible) > 1 and costs.weight_bytes(spec) >= LEAST_WEIGHTS


def known(
    spec: Spec, possible: Sequence[BackendChoice], memory_limit: int | None
) -> tuple[BackendChoice, str] | None:
    """What `choose` would take with what it has measured before, and the reason ("" where there was nothing
    to measure); None where it has not."""
    if not is_worth(spec, possible):
        return possible[0], ""
    if (rows := _recalled(_name(spec, possible))) is None:
        return None
    chosen = best(rows, possible, memory_limit)
    return chosen, reason(rows, chosen, possible)


def best(
    rows: Sequence[Measured], possible: Sequence[BackendChoice], memory_limit: int | None
) -> BackendChoice:
    """Of what is possible, leanest first, the last that is so much faster than a leaner one as it must be.

    What is not faithful, or needs too much memory, is left out; the leanest always may.
    """
    measured = {BackendChoice(row["backend"], row["dtype"]): row for row in rows if not row["why"]}
    chosen = possible[0]
    gain = measured[chosen]["gain"] if chosen in measured else 0.0
    for choice in possible[1:]:
        row = measured.get(choice)
        # So written that a cosine that is no number doesn't pass.
        if row is None or not row["cosine"] >= FAITHFUL_IN_REDUCED_PRECISION:
            continue
        if memory_limit is not None and row["bytes"] > MOST_OF_LIMIT * memory_limit:
            continue
        if row["gain"] >= WORTH * gain:
            chosen, gain = choice, row["gain"]
    return chosen


def reason(rows: Sequence[Measured], chosen: BackendChoice, possible: Sequence[BackendChoice]) -> str:
    """What was chosen, and how it compares, in a few words."""
    gains = {BackendChoice(row["backend"], row["dtype"]): row["gain"] for row in rows if not row["why"]}
    reference, mine = possible[0], gains.get(chosen, 0.0)
    if chosen != reference and gains.get(reference):
        return f"{chosen}, {mine / gains[reference]:.1f} x {reference} on this CPU"
    faster = [str(each) for each in possible if gains.get(each, 0.0) >= WORTH * mine and each != chosen]
    if faster:
        return f"{chosen}; {' and '.join(faster)}: faster here, but not faithful, or too large"
    return f"{chosen}; no other is faster by {WORTH - 1:.0%} on this CPU"


def _name(spec: Spec, possible: Sequence[BackendChoice]) -> str:
    packages = {package for each in possible for package in backends.get(each.backend).distributions}
    key = json.dumps(
        [FORM, list(map(str, possible)), sorted(map(_version, packages)), machine()], sort_keys=True
    )
    return f"calibration/{spec.digest[:32]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.json"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _recalled(name: str) -> list[Measured] | None:
    try:
        rows: list[Measured] = json.loads(recall(name) or "")["choices"]
    except (ValueError, KeyError, TypeError):
        return None
    return rows


def _measured(
    spec: Spec, possible: Sequence[BackendChoice], memory_limit: int | None, say: Say | None
) -> list[Measured] | None:
    """Measure and remember. None where there is no memory for it, it fails, or it can't be remembered."""
    needed = sum(backends.get(each.backend).cost.memory + costs.weight_bytes(spec) for each in possible)
    if memory_limit is not None and memory_limit < needed:
        return None
    name = _name(spec, possible)
    path = cache_folder() / name
    try:
        make_folder(path.parent)
        if not os.access(path.parent, os.W_OK):
            return None
        if say is not None:
            seconds = f"{costs.expected('calibration'):.0f} seconds"
            say(f"model {spec.name}: measuring which backend is fastest here, once, in some {seconds}")
        with locked(path.with_suffix(".lock")):
            # Another process may have measured it in the meantime.
            rows = _recalled(name)
            if rows is None:
                answer = ask("engine.models.measure.calibrate", spec, *map(str, possible))
                rows = answer["choices"]
                costs.remember("calibration", answer["cpu_s"])
                found = {"name": spec.name, "model": spec.digest, "machine": machine(), "choices": rows}
                remember(name, json.dumps(found, indent=1) + "\n")
    except OSError:
        return None
    except HelperError as error:
        if say is not None:
            say(f"model {spec.name}: the backends could not be compared: the process {error}")
        return None
    return rows
