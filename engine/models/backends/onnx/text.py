"""A text model that was exported to ONNX, from ids to finished vectors. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine.machine.cores import cores
from engine.models.backends.base import BackendChoice, OnBatch, TextEmbedder
from engine.models.backends.onnx.cache import MODEL_FILE
from engine.models.backends.onnx.session import Feed, OnnxSession, Session
from engine.models.batching import batches, padded_length
from engine.models.probes import whole_characters
from engine.models.spec import TextSpec
from engine.records import TokenIds, Vector


class OnnxText(TextEmbedder):
    """A loaded text model. Pooling and whatever else follows the transformer are part of its graph.

    With 0 `workers` batches are as large as they may be; None is as many as there are cores.
    """

    def __init__(
        self,
        spec: TextSpec,
        folder: Path,
        session: Callable[[Path], Session] = OnnxSession,
        workers: int | None = None,
    ) -> None:
        self.spec = spec
        self._session = session(folder / MODEL_FILE)
        self.choice = BackendChoice(self._session.backend, "int8" if spec.int8 else self._session.dtype)
        self.window = self._session.window
        self._workers = cores() if workers is None else workers
        self.growth = self._session.growth
        # 8-bit integers are scaled by the largest number of a call, so that inputs would change each other.
        self._budget, self._bucket = (
            (0, 1) if spec.int8 else (self._session.batch_tokens, self._session.bucket)
        )

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: OnBatch | None = None) -> Vector:
        """Embed whole inputs (prompt and special tokens included), int32 [tokens] each.

        Returns float32 [n, dimensions] in the order of the inputs; `on_batch` is called after each batch.
        Raises `TooLargeError` and `DeviceLostError`.
        """
        planned = list(batches([len(each) for each in ids], self._budget, self._workers))
        self.padding += sum(self._longest(ids, batch) * len(batch) for batch in planned)
        self.padding -= sum(len(each) for each in ids)

        def feed(batch: list[int]) -> Feed:
            padded = np.zeros((len(batch), self._longest(ids, batch)), dtype=np.int64)
            for row, index in zip(padded, batch, strict=True):
                row[: len(ids[index])] = ids[index]
            return padded, np.array([len(ids[index]) for index in batch], dtype=np.int64)

        smallest = np.zeros((1, 1), dtype=np.int64), np.ones(1, dtype=np.int64)
        return self._session.embed(planned, (len(ids), self.spec.dimensions), feed, smallest, on_batch)

    def _longest(self, ids: Sequence[TokenIds], batch: list[int]) -> int:
        """Tokens of each row of a padded batch."""
        return padded_length(max(len(ids[index]) for index in batch), self._bucket, self.spec.max_tokens)

    def embed_texts(self, texts: Sequence[str], on_batch: OnBatch | None = None) -> Vector:
        """Embed documents behind the model's prompt for them; otherwise as `embed_ids`."""
        return self.embed_ids([self._ids(self.spec.document_prompt, text) for text in texts], on_batch)

    def embed_query(self, text: str) -> Vector:
        """Embed a query behind the model's prompt for it; float32 [dimensions]."""
        return self.embed_ids([self._ids(self.spec.query_prompt, text)]).reshape(-1)

    def _ids(self, prompt: str, text: str) -> TokenIds:
        encoded = self._tokenizer.encode(prompt + whole_characters(text))
        return np.array(encoded.ids, dtype=np.int32)

    @cached_property
    def _tokenizer(self) -> Any:
        # Imported on use, because chunks come as ids.
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.spec.tokenizer_file))
        tokenizer.no_padding()
        if self.spec.max_tokens is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(self.spec.max_tokens)
        return tokenizer
