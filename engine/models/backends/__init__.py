"""The backends: a module and a line here for each, and no other mention. `base` has the contract."""

from __future__ import annotations

from functools import cache

from engine.errors import UsageError
from engine.models.backends.base import Backend
from engine.registry import Registry

REGISTRY = Registry(
    "backends",
    {
        "onnx": "engine.models.backends.onnx.backend:OnnxBackend",
        "openvino": "engine.models.backends.openvino:OpenVinoBackend",
        "torch": "engine.models.backends.torch.backend:TorchBackend",
        "numpy": "engine.models.backends.clip_text:ClipTextBackend",
        "stand-in": "engine.models.backends.stand_in:StandInBackend",
    },
    base=Backend,
)

#: `--backend` without a choice.
AUTO = "auto"


def names() -> list[str]:
    """What `--backend` takes."""
    return [AUTO, *REGISTRY.names()]


@cache
def get(name: str) -> Backend:
    """The backend of this name. Raises `UsageError` where it is unknown or can't be imported."""
    if name not in REGISTRY:
        raise UsageError(f"--backend {name}: unknown; choose {', '.join(names())}")
    backend: Backend = REGISTRY.get(name)()
    return backend


def leanest_first() -> list[Backend]:
    """All backends, those first that take the least memory: the order in which `auto` prefers them."""
    return sorted(map(get, REGISTRY.names()), key=lambda backend: backend.cost.memory)
