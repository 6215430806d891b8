"""Models that cost next to nothing: a deterministic unit vector from the digest of the input.

They stand in for real ones in tests and benchmarks of everything else, and need numpy alone.
"""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from engine.models.batching import batches
from engine.models.spec import ImageSpec, TextSpec
from engine.records import Pixels, TokenIds, Vector

#: The id in front of every input and the one behind it, as a real tokenizer's special tokens are.
FIRST_ID, LAST_ID = 1, 2

#: One token of a stand-in: up to 8 word characters, or one other character that isn't a space.
STAND_IN_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")

#: Tokens of one batch: what is embedded between two calls of `on_batch`.
BATCH_TOKENS = 65_536

#: Pictures of one batch.
BATCH_IMAGES = 64


def stand_in_id(token: str) -> int:
    """The id of one token: its CRC-32 without the highest bit, so that it fits an int32."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def stand_in_tokens(text: str) -> TokenIds:
    """The whole input for `text`, int32 [tokens + 2], the two special ids included.

    Concatenating the ids of texts that are cut where a token of `STAND_IN_TOKEN` ends gives the ids of the
    whole, special ids apart.
    """
    ids = [stand_in_id(token) for token in STAND_IN_TOKEN.findall(text)]
    return np.array([FIRST_ID, *ids, LAST_ID], dtype=np.int32)


def unit_vectors(inputs: Iterable[bytes], dimensions: int) -> Vector:
    """One unit vector for each input, float32 [n, dimensions]; equal inputs give equal vectors.

    The components are the 16-bit output of SHAKE-128 over the input's BLAKE2b digest, moved by half a step so
    that no vector is zero.
    """
    stream = b"".join(
        hashlib.shake_128(hashlib.blake2b(data).digest()).digest(2 * dimensions) for data in inputs
    )
    vectors = np.frombuffer(stream, dtype="<i2").reshape(-1, dimensions).astype(np.float32)
    vectors += 0.5
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors


class Pace:
    """Sleeps so that no more than `rate` units a second pass in the long run; None never sleeps."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free_at = 0.0

    def spend(self, units: float) -> None:
        """Account for `units` of work and sleep until they would be done; idle time is not saved up."""
        if self.rate is None:
            return
        self._free_at = max(self._free_at, time.monotonic()) + units / self.rate
        time.sleep(max(0.0, self._free_at - time.monotonic()))

    def at_most(self, units: int) -> int:
        """The batch size, `units` or less, that keeps one sleep to about a second."""
        return units if self.rate is None else max(1, min(units, int(self.rate)))


class StandInText:
    """A text model whose vector is made of the digest of its ids."""

    effective_mode: Literal["ids", "text"] = "ids"
    notes: tuple[str, ...] = ()
    padding = growth = 0

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self._pace = Pace(spec.stand_in_rate)

    def embed_ids(self, ids: Sequence[TokenIds], on_batch: Callable[[], None] | None = None) -> Vector:
        """Embed whole inputs, int32 [tokens] each; float32 [n, dimensions]."""
        vectors = np.empty((len(ids), self.spec.dimensions), dtype=np.float32)
        for batch in batches([len(each) for each in ids], self._pace.at_most(BATCH_TOKENS)):
            inputs = (ids[index].astype("<i4", copy=False).tobytes() for index in batch)
            vectors[batch] = unit_vectors(inputs, self.spec.dimensions)
            self._pace.spend(sum(len(ids[index]) for index in batch))
            if on_batch:
                on_batch()
        return vectors

    def embed_texts(self, texts: Sequence[str], on_batch: Callable[[], None] | None = None) -> Vector:
        """Embed texts, float32 [n, dimensions]."""
        return self.embed_ids([stand_in_tokens(text) for text in texts], on_batch)

    def embed_query(self, text: str) -> Vector:
        """Embed a query, float32 [dimensions]: the same vector as that of a chunk with this text."""
        return self.embed_texts([text]).reshape(-1)


class StandInImage:
    """An image model whose vector is made of the digest of the pixels."""

    notes: tuple[str, ...] = ()

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self._pace = Pace(spec.stand_in_rate)

    def embed_pixels(
        self, pixels: Pixels | Sequence[Pixels], on_batch: Callable[[], None] | None = None
    ) -> Vector:
        """Embed pictures, uint8 [n, height, width, 3]; float32 [n, dimensions]."""
        vectors = np.empty((len(pixels), self.spec.dimensions), dtype=np.float32)
        step = self._pace.at_most(BATCH_IMAGES)
        for start in range(0, len(pixels), step):
            batch = pixels[start : start + step]
            vectors[start : start + step] = unit_vectors(
                (picture.tobytes() for picture in batch), self.spec.dimensions
            )
            self._pace.spend(len(batch))
            if on_batch:
                on_batch()
        return vectors

    def embed_query(self, text: str) -> Vector:
        """Embed a query, float32 [dimensions]; a stand-in knows no picture that would be near it."""
        return unit_vectors([text.encode("utf-8", "surrogatepass")], self.spec.dimensions).reshape(-1)
