"""A batch's attention mask, given to the model so that nothing waits for the device. Imports torch.

transformers asks of each mask whether anything is padded, which the device can answer only when it has done
all that was begun: the next batch would be made ready while the device is idle. What is padded is known here
before. Without a mask attention is then the fused kernel's (flash); a mask of four axes is taken as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from engine.models.swaps import Forward, Swaps

#: Kinds of transformers, by their configuration, that take such masks.
KINDS = ("bert", "roberta", "xlm-roberta")


def whole(mask: torch.Tensor) -> torch.Tensor:
    """A mask [n, tokens] as fused attention takes it, [n, 1, tokens, tokens]; no memory is taken for that."""
    count, length = mask.shape
    return mask.bool()[:, None, None, :].expand(count, 1, length, length)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """A mask [n, tokens] as what is added to the scores of attention, float32 [n, 1, 1, tokens]."""
    return ((1.0 - mask.to(torch.float32)) * torch.finfo(torch.float32).min)[:, None, None, :]


class Masks:
    """Swaps the masks of one loaded sentence-transformers model while `given` says what is padded.

    `form` is what becomes of a mask, `attention` by what the model's has to be run for it to be swapped.
    """

    def __init__(
        self, model: Any, form: Callable[[torch.Tensor], torch.Tensor] = whole, attention: str = "sdpa"
    ) -> None:
        self._form = form
        self._padded: bool | None = None
        self._swaps = Swaps(model, KINDS, attention, self._forward)

    @property
    def used(self) -> bool:
        """Whether there is a transformer that takes them."""
        return bool(self._swaps.modules)

    def remove(self) -> None:
        """Leave the model as it was."""
        self._swaps.remove()

    @contextmanager
    def given(self, padded: bool) -> Iterator[None]:
        """Within it the model is given inputs of which some are `padded`, or none."""
        self._padded = padded
        try:
            yield
        finally:
            self._padded = None

    def _forward(self, own: Forward, *args: Any, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        if self._padded is not None and mask is not None and mask.dim() == 2:
            kwargs["attention_mask"] = self._form(mask) if self._padded else None
        return own(*args, **kwargs)
