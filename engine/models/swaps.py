"""What stands in front of the transformers in a sentence-transformers model. Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

#: A transformer's own forward.
Forward = Callable[..., Any]


class Swaps:
    """Has `instead` called, with a transformer's own forward and its arguments, in the place of that forward.

    Those transformers of the `model` are meant that are of these `kinds` by their configuration, and whose
    attention is run by `attention`.
    """

    def __init__(self, model: Any, kinds: tuple[str, ...], attention: str, instead: Forward) -> None:
        self.modules = [module for module in model.modules() if _is_meant(module, kinds, attention)]
        self._before = [module.__dict__.get("forward") for module in self.modules]
        for module in self.modules:
            # Not a hook: sentence-transformers calls this method itself.
            module.forward = _swapped(module.forward, instead)

    def remove(self) -> None:
        """Leave the model as it was."""
        for module, before in zip(self.modules, self._before, strict=True):
            if before is None:
                del module.forward  # the class's own is behind it
            else:
                module.forward = before
        self.modules = []
        self._before = []


def _swapped(own: Forward, instead: Forward) -> Forward:
    @wraps(own)
    def swapped(*args: Any, **kwargs: Any) -> Any:
        return instead(own, *args, **kwargs)

    return swapped


def _is_meant(module: Any, kinds: tuple[str, ...], attention: str) -> bool:
    config = getattr(module, "config", None)
    return (
        hasattr(module, "get_input_embeddings")  # a whole transformer, not one of its layers
        and getattr(config, "model_type", None) in kinds
        and getattr(config, "_attn_implementation", None) == attention
        and not getattr(config, "is_decoder", False)
    )
