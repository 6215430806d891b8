"""A sentence-transformers model that takes token ids. Imports torch: for the inference process alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from engine.models.batching import padded_length
from engine.models.compiling import COMPILER_BYTES, Compiling, counted
from engine.models.device import faithful
from engine.models.digest import recall, remember
from engine.models.masks import Masks
from engine.models.memory import Batches, is_lost, to_device, watched
from engine.models.packing import Packing
from engine.models.probes import (
    PROBES,
    cosines,
    ids_of,
    whole_characters,
)
from engine.models.quiet import one_line, quiet
from engine.models.spec import TextSpec
from engine.models.tuning import fastest, name_of, tune
from engine.records import TokenIds, Vector

#: Padded tokens of one batch by kind of device. On a CPU what fits a core's caches is fastest (measured with
#: MiniLM: 1,000 tokens for each core); a GPU wants as many as keep it busy between two launches.
BATCH_TOKENS = {"cpu": 1_000, "mps": 8_192, "cuda": 32_768}

#: Tokens of an input that batches, and ways to run them, are tried with.
TRIED_LENGTH = 256

#: The same on a CPU, where all cores work on one batch.
SHARED_BATCH_TOKENS = 2_000

#: What a batch's length is a multiple of by kind of device: a GPU has kernels, and its allocator blocks, for
#: few shapes.
BUCKET = {"cpu": 1, "mps": 1, "cuda": 16}

#: Given a batch and its mask, int64 [n, tokens] each: that within which the model is run.
Given = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], AbstractContextManager[None]]

#: Chunks that are embedded as one window by kind of device, where not as many as elsewhere: a GPU is idle
#: from a window's last batch to the next one's first, so a window has several of the largest batches.
WINDOW = {"cuda": 1_024}

#: Kinds of rotary positions that a model changes itself for, input by input, so that two at once disturb it.
CHANGING_POSITIONS = ("dynamic", "longrope")

#: Characters that stand for a token where texts are batched before they are tokenised.
CHARACTERS_PER_TOKEN = 4


class TextModel:
    """A loaded text model. `effective_mode` is `text` where ids would not give the model's own vectors."""

    def __init__(self, spec: TextSpec, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.effective_mode: Literal["ids", "text"] = spec.mode
        self.notes: tuple[str, ...] = ()
        self._model = model
        side_by_side = device.type == "cpu" and spec.mode == "ids" and _bears_threads(spec, model)
        budget = BATCH_TOKENS[device.type] if device.type != "cpu" or side_by_side else SHARED_BATCH_TOKENS
        self._batches = Batches(device, budget, side_by_side)
        #: For texts, whose tokenizer one thread alone may use.
        self._one_by_one = Batches(device, max(budget, SHARED_BATCH_TOKENS))
        self.padding = self.growth = 0
        self._lock = threading.Lock()
        self._bucket = BUCKET[device.type]
        self.window = WINDOW.get(device.type)
        self.compiling: Compiling | None = None
        self._given: Given = lambda padded, mask: nullcontext()
        tokenizer = model.tokenizer if spec.mode == "ids" else None
        self.pad_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.pad_left = getattr(tokenizer, "padding_side", "right") == "left"
        self.with_types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())

    @property
    def module(self) -> Any:
        """The sentence-transformers model itself, for what makes something else of it."""
        return self._model

    @property
    def packed(self) -> bool:
        """Whether batches of ids are run without padding."""
        return self._batches.packed

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        """Embed whole inputs (prompt and special tokens included), int32 [tokens] each.

        Returns float32 [n, dimensions] in the order of the inputs; `on_batch` is called after each batch.
        Raises `TooLargeError` and `DeviceLostError`.
        """
        return counted(self.compiling, partial(self._embed, ids, on_batch))

    def _embed(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        return self._batches.embed(
            [len(each) for each in ids],
            self.spec.dimensions,
            lambda batch: self._forward([ids[index] for index in batch]),
            lambda: self._forward([ids[0][:1]]),
            on_batch,
        )

    def embed_texts(self, texts: Sequence[str], on_batch: Callable[[], None] | None = None) -> Vector:
        """Embed documents by the model's own `encode_document`; otherwise as `embed_ids`."""
        encode, prompt = self._model.encode_document, self.spec.document_prompt
        return self._one_by_one.embed(
            [1 + len(text) // CHARACTERS_PER_TOKEN for text in texts],
            self.spec.dimensions,
            lambda batch: torch.from_numpy(self._encode(encode, [texts[index] for index in batch], prompt)),
            lambda: torch.from_numpy(self._encode(encode, ["."], "")),
            on_batch,
        )

    def embed_query(self, text: str) -> Vector:
        """Embed a query with its prompt by the model's own `encode_query`; float32 [dimensions].

        Raises `DeviceLostError`.
        """
        with watched(self.device):
            return self._encode(self._model.encode_query, [text], self.spec.query_prompt).reshape(-1)

    def give_masks(self) -> bool:
        """From now on give the model its masks as `engine.models.masks` does it; False where it takes none.

        Only for a device whose batches are begun by one thread. Raises what the model raises without them.
        """
        masks = Masks(self._model)
        if masks.used and self._gives_the_same(lambda padded, mask: masks.given(not mask.all())):
            return True
        masks.remove()
        return False

    def give_packing(self) -> bool:
        """From now on run batches without padding, by `engine.models.packing`; False where that can't be.

        As `give_masks`.
        """
        if self._batches.side_by_side:
            return False  # which it can't be run by
        if self.device.type == "cuda" and self.dtype == torch.float32:
            return False  # which its attention doesn't compute in
        try:
            packing = Packing(self._model, self.device)
        except ImportError:  # an older torch or transformers
            return False
        if packing.layers and self._gives_the_same(packing.given):
            self._batches.packed = True
            return True
        packing.remove()
        return False

    def prefer_packing(self) -> None:
        """Run batches without padding where that is faster, which is tried once for a model and a device.

        Never again where that lost the device: each new process would lose it too. As `give_masks`.
        """
        lost = name_of(self.device, "packing", self._key)
        if recall(lost) is not None:
            return
        try:
            self._take_the_faster()
        except Exception as error:
            if is_lost(error):
                remember(lost, f"{one_line(error)}\n")
            raise

    def _take_the_faster(self) -> None:
        padded = self._given
        if not self.give_packing():
            return
        given = {"padded": padded, "packed": self._given}
        ids = self._mixture()

        def take(way: str) -> None:
            self._given, self._batches.packed = given[way], way == "packed"

        def embed(way: str) -> None:
            take(way)
            self.embed_ids(ids)

        ways = {way: partial(embed, way) for way in given}
        take(fastest(self.device, self._key, ways))

    def _gives_the_same(self, given: Given) -> bool:
        """Have batches run within `given` from now on, if that makes no difference."""
        probes, before = self._probes, self._given
        batches = [probes, [max(probes, key=len)] * 2]
        plain = [self._forward(ids).cpu().numpy() for ids in batches]
        self._given = given
        try:
            found = [self._forward(ids).cpu().numpy() for ids in batches]
            enough = faithful(self.dtype)
            good = all((cosines(a, b) >= enough).all() for a, b in zip(found, plain, strict=True))
        except Exception as error:  # whatever a version of transformers raises for what it doesn't know
            if is_lost(error):
                raise
            good = False
        if not good:
            self._given = before
        return good

    def tune(self, sizes: Sequence[int]) -> None:
        """Find the fastest batch among these sizes in padded tokens, or remember it."""
        length = min(TRIED_LENGTH, self.spec.max_tokens or TRIED_LENGTH)
        one = np.ones(length, dtype=np.int32)

        def embed(tokens: int) -> None:
            self.embed_ids([one] * max(1, tokens // length))

        tune(self._batches, self._key, sizes, embed)

    def give_compiling(self) -> None:
        """Let torch's compiler be used, by `engine.models.compiling`. As `give_masks`, and after all else."""
        ids = self._mixture()
        # One input alone, and inputs without padding, are compiled for themselves: now, not in a run's midst.
        kinds = [ids, ids[-1:], ids[-2:-1], ids[-1:] * 2]

        def work() -> Vector:
            return np.concatenate([self._embed(each) for each in kinds])

        self.compiling = Compiling(self._model, self.device, self._key, work, faithful(self.dtype))
        self.growth = COMPILER_BYTES

    def _mixture(self) -> list[TokenIds]:
        """Inputs of all lengths up to that which is tried, some batches of them."""
        longest = min(TRIED_LENGTH, self.spec.max_tokens or TRIED_LENGTH)
        count = max(2, 4 * self._batches.budget // longest)
        return [self._probes[-1][:length] for length in np.linspace(1, longest, count, dtype=int)]

    @property
    def _key(self) -> str:
        """What tells this model in these numbers from others."""
        return f"{self.spec.digest} {self.dtype}"

    @cached_property
    def _probes(self) -> list[TokenIds]:
        """Inputs of several lengths, up to what is tried: a window of attention is shorter."""
        longest = min(TRIED_LENGTH, self.spec.max_tokens or TRIED_LENGTH)
        ids = [each[:longest] for each in ids_of(self.spec, PROBES)]
        return [*ids, np.resize(np.concatenate(ids), longest)]

    def _encode(self, encode: Callable[..., Any], texts: list[str], prompt: str) -> Vector:
        texts = [whole_characters(text) for text in texts]
        with quiet():
            encoded = encode(texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False)
        vectors: Vector = np.asarray(encoded, dtype=np.float32)
        if self.spec.normalized and self.dtype != torch.float32:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    @torch.inference_mode()
    def _forward(self, ids: Sequence[TokenIds]) -> torch.Tensor:
        padded, mask = self._padded(ids)
        features = {
            "input_ids": to_device(padded, self.device),
            "attention_mask": to_device(mask, self.device),
        }
        if self.with_types:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        with self._given(padded, mask):
            vectors: torch.Tensor = self._model(features)["sentence_embedding"].float()
        # A model that normalises in 16 bits leaves lengths that databases refuse as not being one.
        if self.spec.normalized and self.dtype != torch.float32:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return vectors

    def _padded(self, ids: Sequence[TokenIds]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        longest = padded_length(max(len(each) for each in ids), self._bucket, self.spec.max_tokens)
        padded = np.full((len(ids), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, each in enumerate(ids):
            place = slice(longest - len(each), longest) if self.pad_left else slice(0, len(each))
            padded[row, place] = each
            mask[row, place] = 1
        if not self._batches.packed:
            with self._lock:
                self.padding += int(mask.size - mask.sum())
        return padded, mask


def _bears_threads(spec: TextSpec, model: Any) -> bool:
    """Whether several threads may run the model at once: not where it keeps something of an input."""
    if spec.trust_remote_code:
        return False
    configs = (getattr(module, "config", None) for module in model.modules())
    return not any(_positions(config) in CHANGING_POSITIONS for config in configs)


def _positions(config: Any) -> str | None:
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(found := getattr(config, name, None), dict):
            return found.get("rope_type", found.get("type"))
    return None
