"""A sentence-transformers model that takes token ids. Imports torch: for the inference process alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from engine.models.backends.base import BackendChoice, OnBatch, TextEmbedder
from engine.models.backends.torch.device import device_name, name_of
from engine.models.backends.torch.memory import Batches, to_device, watched
from engine.models.batching import padded_length
from engine.models.probes import whole_characters
from engine.models.quiet import quiet
from engine.models.spec import TextSpec
from engine.records import TokenIds, Vector

#: Padded tokens of one batch by kind of device. On a CPU a batch that fits a core's caches is fastest
#: (measured with MiniLM: 1,000 tokens a core); a GPU needs enough to stay busy between two launches.
BATCH_TOKENS = {"cpu": 1_000, "mps": 8_192, "cuda": 16_384}

#: The same on a CPU, where all cores work on one batch.
SHARED_BATCH_TOKENS = 2_000

#: A batch's padded length is a multiple of this, by kind of device: GPUs are faster with few shapes.
BUCKET = {"cpu": 1, "mps": 1, "cuda": 16}

#: Chunks in one window by kind of device, where it is not the default. With so many, in batches of the size
#: above, padding adds 2 % where most chunks are whole (256 tokens), 9 % where all lengths
#: are as frequent, and 28 % for short lines; of 1,024 chunks it adds 4, 15 and 63 % (computed).
WINDOW = {"cuda": 4_096}

#: Kinds of rotary positions for which a model changes its state with each input, so threads can't share it.
CHANGING_POSITIONS = ("dynamic", "longrope")

#: Characters that count as one token where texts are batched before they are tokenised.
CHARACTERS_PER_TOKEN = 4


class TextModel(TextEmbedder):
    """A loaded text model. `effective_mode` is `text` where ids would not give the model's own vectors."""

    def __init__(self, spec: TextSpec, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.spec = spec
        self.choice = BackendChoice("torch", name_of(dtype))
        self.device, self.device_name = str(device), device_name(device)
        self.dtype = dtype
        self._place = device
        self.effective_mode = spec.mode
        self._model = model
        side_by_side = device.type == "cpu" and spec.mode == "ids" and _bears_threads(spec, model)
        budget = BATCH_TOKENS[device.type] if device.type != "cpu" or side_by_side else SHARED_BATCH_TOKENS
        self._batches = Batches(device, budget, side_by_side)
        #: For texts: only one thread may use their tokenizer.
        self._one_by_one = Batches(device, max(budget, SHARED_BATCH_TOKENS))
        self._lock = threading.Lock()
        self._bucket = BUCKET[device.type]
        self.window = WINDOW.get(device.type)
        tokenizer = model.tokenizer if spec.mode == "ids" else None
        self.pad_id = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.pad_left = getattr(tokenizer, "padding_side", "right") == "left"
        self.with_types = "token_type_ids" in getattr(tokenizer, "model_input_names", ())

    @property
    def module(self) -> Any:
        """The sentence-transformers model itself, for the ONNX export."""
        return self._model

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        """Embed whole inputs (prompt and special tokens included), int32 [tokens] each.

        Returns float32 [n, dimensions] in the order of the inputs; `on_batch` is called after each batch.
        Raises `TooLargeError` and `DeviceLostError`.
        """
        return self._batches.embed(
            [len(each) for each in ids],
            self.spec.dimensions,
            lambda batch: self._forward([ids[index] for index in batch]),
            lambda: self._forward([ids[0][:1]]),
            on_batch,
        )

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
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
        with watched(self._place):
            return self._encode(self._model.encode_query, [text], self.spec.query_prompt).reshape(-1)

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
            "input_ids": to_device(padded, self._place),
            "attention_mask": to_device(mask, self._place),
        }
        if self.with_types:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        vectors: torch.Tensor = self._model(features)["sentence_embedding"].float()
        # A model that normalises in 16 bits gives lengths that databases refuse as not being 1.
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
        with self._lock:
            self.padding += int(mask.size - mask.sum())
        return padded, mask


def _bears_threads(spec: TextSpec, model: Any) -> bool:
    """Whether several threads may run the model at once: not where an input changes its state."""
    if spec.trust_remote_code:
        return False
    configs = (getattr(module, "config", None) for module in model.modules())
    return not any(_positions(config) in CHANGING_POSITIONS for config in configs)


def _positions(config: Any) -> str | None:
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(found := getattr(config, name, None), dict):
            return found.get("rope_type", found.get("type"))
    return None
