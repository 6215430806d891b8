"""Loads the model of a specification with the backend that runs it, and imports no other backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import UsageError
from engine.models import backends
from engine.models.backends import AUTO
from engine.models.backends.base import (
    BackendChoice,
    CannotRunError,
    CaptionEmbedder,
    ImageEmbedder,
    Loaded,
    Say,
    Spec,
    TextEmbedder,
    Work,
)
from engine.models.choices import check_backend, choices, fixed_dtype, why_none
from engine.models.devices import devices
from engine.models.measure import costs
from engine.models.measure.calibration import choose, known
from engine.models.spec import ImageSpec, TextSpec
from engine.models.swap import Swap, SwappingImage, SwappingText
from engine.records import Kind

__all__ = ["CaptionEmbedder", "ImageEmbedder", "TextEmbedder", "load_caption", "load_image", "load_text"]

_Model = TypeVar("_Model", bound=Loaded)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be run and by what, as the options say it."""

    work: Work
    spec: Spec
    device: str
    dtype: str
    backend: str


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What runs a model, on which device; notes where that isn't what was asked for; and the processor
    seconds after which a better form is worth its making (None: there is nothing better to be made)."""

    choice: BackendChoice
    device: str
    notes: tuple[str, ...] = ()
    cost: float | None = None


def load_text(
    spec: TextSpec,
    device: str = AUTO,
    dtype: str = AUTO,
    backend: str = AUTO,
    memory_limit: int | None = None,
    say: Say | None = None,
    measure: bool = True,
    at_once: bool = False,
) -> TextEmbedder:
    """The text model of the specification, on one device: the first where several are named.

    On a CPU the backend is the one that calibration has found fastest here, else the leanest whose form of
    the model is in the user's cache, else torch; a better one is then made ready while the model works, once
    that repays it (`engine.models.swap`). `at_once` exports and calibrates before it loads, and so does a
    `backend` that is named; without `measure`, as for one query, what is at hand is used and stays.
    Where a backend fails at the model another runs it, and a note tells why. `memory_limit` is the bytes that
    loading may take, and `say` is told what takes long, and what was chosen. Raises `UsageError` where
    nothing runs the model so, and `DeviceLostError`.
    """
    asked = _Asked("text", spec, device, dtype, backend)
    chosen = _choose(asked, memory_limit, say, measure, at_once)
    model = _loaded_text(spec, chosen)
    if chosen.cost is None:
        return model

    def better(room: int | None) -> TextEmbedder:
        made = _loaded_text(spec, _better(asked, chosen, room))
        if made.effective_mode != model.effective_mode:
            raise CannotRunError(f"{made.choice} takes its inputs as {made.effective_mode}")
        return made

    return SwappingText(Swap(model, better, chosen.cost, memory_limit, _of_model("text", say)))


def load_image(
    spec: ImageSpec,
    device: str = AUTO,
    dtype: str = AUTO,
    backend: str = AUTO,
    memory_limit: int | None = None,
    say: Say | None = None,
    measure: bool = True,
    at_once: bool = False,
) -> ImageEmbedder:
    """The image model of the specification, as `load_text` does it; in float32 where `--dtype` is int8."""
    asked = _Asked("image", spec, device, dtype, backend)
    chosen = _choose(asked, memory_limit, say, measure, at_once)
    model = _loaded_image(spec, chosen)
    if chosen.cost is None:
        return model

    def better(room: int | None) -> ImageEmbedder:
        return _loaded_image(spec, _better(asked, chosen, room))

    return SwappingImage(Swap(model, better, chosen.cost, memory_limit, _of_model("image", say)))


def load_caption(spec: ImageSpec, device: str = AUTO, dtype: str = AUTO) -> CaptionEmbedder:
    """The text tower of an image model, by the leanest backend that runs it: pictures are searched by it, one
    caption at a time, so that `auto` looks for no GPU."""
    device, dtype = "cpu" if device == AUTO else device, "float32" if dtype == AUTO else dtype
    chosen = _choose(_Asked("caption", spec, device, dtype, AUTO), None, None, measure=False, at_once=False)
    choice = chosen.choice
    return _noted(backends.get(choice.backend).load_caption(spec, chosen.device, choice.dtype), chosen)


def _loaded_text(spec: TextSpec, chosen: _Chosen) -> TextEmbedder:
    choice = chosen.choice
    return _noted(backends.get(choice.backend).load_text(spec, chosen.device, choice.dtype), chosen)


def _loaded_image(spec: ImageSpec, chosen: _Chosen) -> ImageEmbedder:
    choice = chosen.choice
    return _noted(backends.get(choice.backend).load_image(spec, chosen.device, choice.dtype), chosen)


def _choose(
    asked: _Asked, memory_limit: int | None, say: Say | None, measure: bool, at_once: bool
) -> _Chosen:
    """What runs the model: the best, made and measured now, where that is asked for; else of what is at hand
    the one that is known to be the best; without `measure` the leanest."""
    work, spec, backend, dtype = asked.work, asked.spec, asked.backend, asked.dtype
    check_backend(backend, asked.device, dtype if work == "text" else fixed_dtype(spec, dtype))
    places = devices(asked.device, backend)[:1] + (["cpu"] if asked.device == AUTO else [])
    place = next((each for each in places if choices(work, spec, each, dtype, backend)), places[0])
    failed = dict[str, str]()
    while possible := choices(work, spec, place, dtype, backend, failed):
        unmade = [] if at_once or asked.backend != AUTO else _unmade(spec, possible)
        here = choices(work, spec, place, dtype, backend, [*failed, *unmade]) or possible
        best = known(spec, possible, memory_limit) if measure and asked.backend == AUTO else None
        first = best[0] if best is not None and best[0] in here else here[0]
        try:
            backends.get(first.backend).prepare(spec, memory_limit, say)
        except (CannotRunError, ImportError) as error:
            failed[first.backend] = str(error)
            if backend != AUTO:
                backend, dtype = AUTO, first.dtype
            continue
        notes = _why_another(work, spec, first, failed)
        if asked.backend != AUTO or not measure:
            return _Chosen(first, place, notes)
        if at_once:
            return _Chosen(choose(spec, possible, memory_limit, say), place, notes)
        cost = _cost(unmade, first, best)
        if say is not None and (line := _decision(first, cost, best)):
            say(f"{work} model: {line}")
        return _Chosen(first, place, notes, cost)
    kind = "text" if isinstance(spec, TextSpec) else "image"
    reasons = next(iter(failed.values()), None) or why_none(work, spec, place, dtype, backend)
    raise UsageError(f"{kind} model {spec.name} can't be run: {reasons}")


def _unmade(spec: Spec, possible: Sequence[BackendChoice]) -> list[str]:
    """The backends whose form of the model has yet to be made."""
    return [each.backend for each in possible if not backends.get(each.backend).ready(spec)]


def _cost(
    unmade: Sequence[str], first: BackendChoice, best: tuple[BackendChoice, str] | None
) -> float | None:
    """Processor seconds that it takes to make what may be better than the first; None where nothing may."""
    if best is not None and best[0] == first:
        return None
    return (costs.expected("export") if unmade else 0.0) + (0.0 if best else costs.expected("calibration"))


def _decision(first: BackendChoice, cost: float | None, best: tuple[BackendChoice, str] | None) -> str:
    """What the user is told of it; nothing where there was no choice."""
    if cost is None:
        return f"{best[1]}; cached" if best is not None and best[1] else ""
    return (
        f"{first}; what may be faster here is made beside the work once that has taken as long"
        f" ({cost:.0f} s of processor time; --calibrate: at once)"
    )


def _better(asked: _Asked, now: _Chosen, room: int | None) -> _Chosen:
    """The best in so much memory, made and measured now. Raises `CannotRunError` where that is what runs."""
    found = _choose(asked, room, None, measure=True, at_once=True)
    if found.choice == now.choice:
        raise CannotRunError("; ".join(found.notes) or "nothing is faster here")
    return found


def _why_another(work: Work, spec: Spec, chosen: BackendChoice, failed: dict[str, str]) -> tuple[str, ...]:
    if not failed:
        return ()
    name, why = next(iter(failed.items()))
    mine, other = backends.get(chosen.backend).title, backends.get(name).title
    return (f"{work} model {spec.name} is run by {mine}, not {other}: {why}",)


def _noted(model: _Model, chosen: _Chosen) -> _Model:
    model.notes += chosen.notes
    return model


def _of_model(kind: Kind, say: Say | None) -> Say:
    return (lambda text: None) if say is None else lambda text: say(f"{kind} model: {text}")
