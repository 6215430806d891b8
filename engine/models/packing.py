"""A batch of inputs one behind another, without padding. Imports torch.

Beside attention a transformer looks at each token by itself, so that a batch may be one long row, where
attention is told where each input begins: torch's `varlen_attn` (FlashAttention, on CUDA from torch 2.10 on;
windows, causal ones too, and heads that are shared from 2.12 on) takes that; elsewhere attention is run input
by input. What a model makes of its tokens is laid side by side again, because what follows the transformer,
pooling above all, is the model's own and small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from engine.models.memory import to_device
from engine.models.swaps import Forward, Swaps

#: Kinds of transformers, by their configuration, that can be packed: their positions can be given to them and
#: their attention is all that looks at other tokens.
KINDS = ("bert", "roberta", "xlm-roberta", "modernbert", "llama", "mistral", "qwen2", "qwen3")

#: Those of them that count positions from behind the padding's id on, and tokens of that id not at all.
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta")

#: What transformers is to call this attention.
NAME = "packed"


@dataclass(slots=True)
class Layout:
    """How the inputs of a batch lie one behind another.

    `places`, int64 [tokens], are those of each token in the padded batch; `positions`, int64 [1, tokens], its
    own in its input, as the model counts; `starts`, int32 [n + 1], where each input begins and the last one
    ends; `bounds` the same as numbers; `longest` is the most tokens that an input has. `calls` counts those
    of attention that heeded it.
    """

    places: torch.Tensor
    positions: torch.Tensor
    starts: torch.Tensor
    bounds: list[int]
    longest: int
    calls: int = 0


#: The batch that the model of this thread is being given, if it is packed.
_LAYOUT: ContextVar[Layout | None] = ContextVar("layout", default=None)


class Packing:
    """Packs the batches of one loaded sentence-transformers model while `given` says what is padded.

    Transformers are packed that are of `KINDS`, and whose attention is torch's own ("sdpa"). Only for a model
    that one thread runs. Raises `ImportError` where transformers has no interface for attention, or the
    device is CUDA and torch has none for inputs of many lengths.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        from transformers import AttentionInterface

        if device.type == "cuda":
            from torch.nn.attention.varlen import varlen_attn  # noqa: F401
        # A compiler, should there be one, is not to look at what changes with every batch.
        AttentionInterface.register(NAME, torch.compiler.disable(_attention))  # type: ignore[no-untyped-call]
        self._device = device
        self._swaps = Swaps(model, KINDS, "sdpa", _forward)
        self._configs = [module.config for module in self._swaps.modules]

    @property
    def layers(self) -> int:
        """The layers whose attention is packed; 0 where there is no transformer that can be."""
        return sum(int(config.num_hidden_layers) for config in self._configs)

    def remove(self) -> None:
        """Leave the model as it was."""
        self._swaps.remove()
        self._configs = []

    @contextmanager
    def given(self, padded: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Iterator[None]:
        """Within it the model is given this batch, int64 [n, tokens], of which `mask` is what isn't padded.

        Raises `RuntimeError` where a layer's attention was not packed.
        """
        config = self._configs[0]
        counted = config.model_type in COUNTED_FROM_PADDING
        layout = _layout(padded, mask, int(config.pad_token_id) if counted else None, self._device)
        token = _LAYOUT.set(layout)
        for each in self._configs:
            each._attn_implementation = NAME
        try:
            # cuDNN would make a plan for each new shape, and nearly every batch has its own.
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if self._device.type == "cuda" else nullcontext():
                yield
        finally:
            _LAYOUT.reset(token)
            for each in self._configs:
                each._attn_implementation = "sdpa"
        if layout.calls != self.layers:
            raise RuntimeError(f"of {self.layers} layers {layout.calls} packed their attention")


def _layout(
    padded: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], padding: int | None, device: torch.device
) -> Layout:
    places = np.flatnonzero(mask)
    lengths = mask.sum(axis=1)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    if padding is None:
        positions = np.arange(len(places)) - np.repeat(bounds[:-1], lengths)
    else:
        # As transformers counts them: from 1 behind the padding's id, and that for a token of this id.
        real = padded.reshape(-1)[places] != padding
        before = np.concatenate([[0], np.cumsum(real)])
        positions = (before[1:] - np.repeat(before[bounds[:-1]], lengths)) * real + padding
    return Layout(
        to_device(places, device),
        to_device(positions[None], device),
        to_device(bounds.astype(np.int32), device),
        bounds.tolist(),
        int(lengths.max()),
    )


def _forward(own: Forward, *args: Any, **kwargs: Any) -> Any:
    layout = _LAYOUT.get()
    if layout is None:
        return own(*args, **kwargs)
    count, length = kwargs["input_ids"].shape
    for name in ("input_ids", "token_type_ids"):
        if kwargs.get(name) is not None:
            kwargs[name] = kwargs[name].reshape(1, -1)[:, layout.places]
    kwargs |= {"attention_mask": None, "position_ids": layout.positions}
    output = own(*args, **kwargs)
    states = output.last_hidden_state[0]
    padded = states.new_zeros(count * length, states.shape[-1]).index_copy_(0, layout.places, states)
    return type(output)(last_hidden_state=padded.view(count, length, -1))


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers asks for attention: [1, heads, tokens, width] each to [1, tokens, heads, width]."""
    layout = _LAYOUT.get()
    if layout is None:
        raise RuntimeError("attention is to be packed, but no batch is")
    layout.calls += 1
    reach = (-1, -1) if sliding_window is None else (sliding_window - 1,) * 2  # transformers counts the token
    if module.is_causal:
        reach = (reach[0], 0)
    attend = _by_kernel if query.is_cuda else _by_input
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    return attend(q, k, v, layout, scaling, reach).unsqueeze(0), None


def _by_kernel(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    reach: tuple[int, int],
) -> torch.Tensor:
    """Attention within each input, [tokens, heads, width] each; see `_by_input`."""
    from torch.nn.attention.varlen import varlen_attn

    # Only what isn't its default, because the oldest torch that has it lacks some.
    options: dict[str, Any] = {}
    if scaling not in (None, query.shape[-1] ** -0.5):
        options["scale"] = scaling
    if reach != (-1, -1):
        options["window_size"] = reach
    if key.shape[1] != query.shape[1]:
        options["enable_gqa"] = True
    starts, longest = layout.starts, layout.longest
    attended = varlen_attn(query, key, value, starts, starts, longest, longest, **options)
    return cast(torch.Tensor, attended)  # with what it is asked for


def _by_input(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scaling: float | None,
    reach: tuple[int, int],
) -> torch.Tensor:
    """The same one input after another. `reach` is how many tokens back and ahead attention goes, -1 all."""
    attended = torch.empty_like(query)
    shared = key.shape[1] != query.shape[1]
    for start, end in pairwise(layout.bounds):
        # To [heads, tokens, width], as torch has it.
        q, k, v = (each[start:end].transpose(0, 1) for each in (query, key, value))
        seen = _seen(end - start, reach, query.device)
        found = scaled_dot_product_attention(q, k, v, seen, scale=scaling, enable_gqa=shared)
        attended[start:end] = found.transpose(0, 1)
    return attended


def _seen(length: int, reach: tuple[int, int], device: torch.device) -> torch.Tensor | None:
    """Which token sees which, bool [tokens, tokens]; None where each sees all."""
    back, ahead = reach
    if back < 0 and ahead < 0:
        return None
    place = torch.arange(length, device=device)
    distance = place[None, :] - place[:, None]
    seen = torch.ones(length, length, dtype=torch.bool, device=device)
    if back >= 0:
        seen &= distance >= -back
    if ahead >= 0:
        seen &= distance <= ahead
    return seen
