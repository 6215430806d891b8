"""Which backends may run a model, and in which number formats, by what they declare. Imports no library."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import UsageError
from engine.models import backends
from engine.models.backends import AUTO
from engine.models.backends.base import DTYPES as NUMBERS
from engine.models.backends.base import Backend, BackendChoice, Spec, Work, kind_of, listed
from engine.models.devices import parse_devices
from engine.models.spec import TextSpec

#: What `--dtype` takes.
DTYPES = (AUTO, *NUMBERS)

#: The number format that gives a model of its own, and so is used only on request.
INT8 = "int8"


def check_backend(backend: str, device: str, dtype: str) -> None:
    """Raises `UsageError`, before any model is known, where these options exclude each other.

    `device` may name several, by commas.
    """
    names = parse_devices(device)
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: unknown; choose {', '.join(DTYPES)}")
    if dtype == INT8 and (backend == AUTO or INT8 not in backends.get(backend).dtypes):
        able = [each.name for each in backends.leanest_first() if INT8 in each.dtypes and not each.only_own]
        raise UsageError(f"--dtype int8 needs --backend {' or '.join(able)}")
    if backend == AUTO:
        return
    part = backends.get(backend)
    for option, values, accepted in (("device", names, part.devices), ("dtype", [dtype], part.dtypes)):
        for value in values:
            if kind_of(value) not in (AUTO, *accepted):
                raise UsageError(f"--backend {backend} needs --{option} {listed(accepted)}, not {value}")
    if not part.installed():
        raise UsageError(f"--backend {backend}: {part.not_installed}")


def choices(
    work: Work,
    spec: Spec,
    device: str,
    dtype: str = AUTO,
    backend: str = AUTO,
    without: Iterable[str] = (),
) -> list[BackendChoice]:
    """The ways to run a model on this device that the options leave, leanest first; empty where none can.

    `without` names backends that have failed. Of backends with one number format only the leanest is a
    choice: with MiniLM OpenVINO's float32 was 1.1 to 1.2 times as fast as ONNX Runtime's, and torch's
    bfloat16 0.7 times as OpenVINO's (`benchmarks.speed.backends`), which is worth neither the memory nor the
    time to compare them.
    """
    dtype = fixed_dtype(spec, dtype)
    found: list[BackendChoice] = []
    for part in _asked(backend, spec):
        if part.name in without:
            continue
        for each in part.auto_dtypes(device) if dtype == AUTO else (dtype,):
            new = all(each != other.dtype for other in found)
            if new and part.refusal(work, spec, device, each) is None:
                found.append(BackendChoice(part.name, each))
    return found


def fixed_dtype(spec: Spec, dtype: str) -> str:
    """The number format of this model under `--dtype`: int8 is that of int8 text models, and of no others."""
    if isinstance(spec, TextSpec) and spec.int8:
        return INT8
    return "float32" if dtype == INT8 else dtype


def why_none(work: Work, spec: Spec, device: str, dtype: str, backend: str) -> str:
    """Why none of the requested backends runs this model so."""
    reasons = [
        f"--backend {part.name}: {part.refusal(work, spec, device, fixed_dtype(spec, dtype))}"
        for part in _asked(backend, spec)
        if not (backend == AUTO and (part.only_own or work not in part.work))
    ]
    return "; ".join(reasons)


def _asked(backend: str, spec: Spec) -> list[Backend]:
    """A model that a backend itself specifies (a stand-in) is run by that backend alone."""
    if spec.backend is not None:
        return [backends.get(spec.backend)]
    return backends.leanest_first() if backend == AUTO else [backends.get(backend)]
