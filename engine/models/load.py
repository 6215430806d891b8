"""Loads the model of a specification with the backend that runs it, and imports no other backend."""

from __future__ import annotations

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
from engine.models.measure.calibration import choose
from engine.models.spec import ImageSpec, TextSpec

__all__ = ["CaptionEmbedder", "ImageEmbedder", "TextEmbedder", "load_caption", "load_image", "load_text"]

_Model = TypeVar("_Model", bound=Loaded)


def load_text(
    spec: TextSpec,
    device: str = AUTO,
    dtype: str = AUTO,
    backend: str = AUTO,
    memory_limit: int | None = None,
    say: Say | None = None,
    measure: bool = True,
) -> TextEmbedder:
    """The text model of the specification, on one device: the first where several are named.

    The backend is the leanest that runs the model there, or on a CPU the one that `measure.calibration` finds
    fastest; without `measure`, as for one query, the leanest. Where a backend fails at the model another runs
    it, and a note tells why. `memory_limit` is the bytes that loading may take, and `say` is told what takes
    long, and what was chosen. Raises `UsageError` where nothing runs the model so, and `DeviceLostError`.
    """
    chosen, place, notes = _choose("text", spec, device, dtype, backend, memory_limit, say, measure)
    return _noted(backends.get(chosen.backend).load_text(spec, place, chosen.dtype), notes)


def load_image(
    spec: ImageSpec,
    device: str = AUTO,
    dtype: str = AUTO,
    backend: str = AUTO,
    memory_limit: int | None = None,
    say: Say | None = None,
    measure: bool = True,
) -> ImageEmbedder:
    """The image model of the specification, as `load_text` does it; in float32 where `--dtype` is int8."""
    chosen, place, notes = _choose("image", spec, device, dtype, backend, memory_limit, say, measure)
    return _noted(backends.get(chosen.backend).load_image(spec, place, chosen.dtype), notes)


def load_caption(spec: ImageSpec, device: str = AUTO, dtype: str = AUTO) -> CaptionEmbedder:
    """The text tower of an image model, by the leanest backend that runs it: pictures are searched by it."""
    chosen, place, notes = _choose("caption", spec, device, dtype, AUTO, None, None, measure=False)
    return _noted(backends.get(chosen.backend).load_caption(spec, place, chosen.dtype), notes)


def _choose(
    work: Work,
    spec: Spec,
    device: str,
    dtype: str,
    backend: str,
    memory_limit: int | None,
    say: Say | None,
    measure: bool,
) -> tuple[BackendChoice, str, tuple[str, ...]]:
    """The backend that runs the model, the device, and a note where these are not the requested ones."""
    check_backend(backend, device, dtype if work == "text" else fixed_dtype(spec, dtype))
    places = devices(device, backend)[:1] + (["cpu"] if device == AUTO else [])
    place = next((each for each in places if choices(work, spec, each, dtype, backend)), places[0])
    asked, failed = backend, dict[str, str]()
    while possible := choices(work, spec, place, dtype, backend, failed):
        first = possible[0]
        try:
            backends.get(first.backend).prepare(spec, memory_limit, say)
        except (CannotRunError, ImportError) as error:
            failed[first.backend] = str(error)
            if backend != AUTO:
                backend, dtype = AUTO, first.dtype
            continue
        if asked == AUTO and measure:
            first = choose(spec, possible, memory_limit, say)
        return first, place, _why_another(work, spec, first, failed)
    kind = "text" if isinstance(spec, TextSpec) else "image"
    reasons = next(iter(failed.values()), None) or why_none(work, spec, place, dtype, backend)
    raise UsageError(f"{kind} model {spec.name} can't be run: {reasons}")


def _why_another(work: Work, spec: Spec, chosen: BackendChoice, failed: dict[str, str]) -> tuple[str, ...]:
    if not failed:
        return ()
    name, why = next(iter(failed.items()))
    mine, other = backends.get(chosen.backend).title, backends.get(name).title
    return (f"{work} model {spec.name} is run by {mine}, not {other}: {why}",)


def _noted(model: _Model, notes: tuple[str, ...]) -> _Model:
    model.notes += notes
    return model
