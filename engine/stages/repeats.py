"""Contents that repeat are embedded once: boilerplate, copies of a file, a picture that many pages show."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import HandOverError
from engine.models.batching import TooLargeError
from engine.records import Vector

#: Most bytes of remembered vectors: 4,500 of 384 dimensions, more than a million tokens of other text between
#: two copies.
REMEMBERED_BYTES = 8 * 2**20

#: Bytes of a remembered vector besides its numbers: its key, its array, and the places of both (measured).
ENTRY_BYTES = 320


#: Bytes of a content's digest by which it is known again: 128 bits.
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors, float32 [n, d], a row for each input; by position why a row is none; and the positions whose
    vector was at hand, because the same content had been embedded before."""

    vectors: Vector
    refused: dict[int, str]
    repeated: list[int]


class Remembered:
    """The vectors of the contents that came last, of at most `most` bytes. With 0 nothing is looked up, nor
    within a window."""

    def __init__(self, most: int = REMEMBERED_BYTES) -> None:
        #: Bytes that may be remembered.
        self.most = most
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        #: Bytes of what is remembered.
        self.size = 0

    def embed(self, keys: Sequence[bytes], embed: Callable[[Sequence[int]], Vector]) -> Embedding:
        """A vector for each key; `embed` is asked, at most once, for those of some positions.

        Equal keys must mean equal contents. Raises `HandOverError` where `embed` gives another number, and
        what it raises, but for inputs that are too large: those are refused wherever they stand.
        """
        if not self.most:
            return Embedding(*_embedded(range(len(keys)), embed), [])
        # The row of each position: among the vectors embedded now, or else, from -1 down, the known ones.
        rows: list[int] = []
        fresh: dict[bytes, int] = {}
        positions: list[int] = []
        known: list[Vector] = []
        for position, key in enumerate(keys):
            row = fresh.get(key)
            if row is None:
                vector = self._get(key)
                if vector is None:
                    row = fresh[key] = len(positions)
                    positions.append(position)
                else:
                    known.append(vector)
                    row = -len(known)
            rows.append(row)
        repeated = _others(positions, len(keys))
        parts = [vector[None] for vector in reversed(known)]  # negative rows count from the end
        reasons: dict[int, str] = {}
        if positions:
            vectors, reasons = _embedded(positions, embed)
            self._keep(fresh, vectors)
            if not repeated:
                return Embedding(vectors, reasons, [])
            parts.insert(0, vectors)
        whole = np.concatenate(parts)[rows]
        refused = {position: reasons[row] for position, row in enumerate(rows) if row in reasons}
        return Embedding(whole, refused, repeated)

    def _get(self, key: bytes) -> Vector | None:
        vector = self._vectors.get(key)
        if vector is not None:
            self._vectors.move_to_end(key)
        return vector

    def _keep(self, fresh: dict[bytes, int], vectors: Vector) -> None:
        cost = vectors[0].nbytes + ENTRY_BYTES
        finite = set(np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist())
        for key, row in fresh.items():
            if row in finite and cost <= self.most:
                # A copy, or the whole window's vectors would stay with the one.
                self._vectors[key] = vectors[row].copy()
                self.size += cost
        while self.size > self.most:
            self.size -= self._vectors.popitem(last=False)[1].nbytes + ENTRY_BYTES


def content_key(content_hash: str, context: str | None) -> bytes:
    """The key of a text by its SHA-256 (hex) and the digest of what else its vector depends on."""
    key = bytes.fromhex(content_hash)[:KEY_BYTES]
    return key if context is None else key + hashlib.sha256(context.encode()).digest()[:KEY_BYTES]


def _embedded(
    positions: Sequence[int], embed: Callable[[Sequence[int]], Vector]
) -> tuple[Vector, dict[int, str]]:
    """A vector for each of the positions, and by row why it is none."""
    reasons: dict[int, str] = {}
    try:
        vectors = embed(positions)
    except TooLargeError as error:
        vectors, reasons = error.vectors, dict.fromkeys(error.positions, str(error))
    if len(vectors) != len(positions):
        what = f"{len(vectors)} vectors for {len(positions)} chunks"
        raise HandOverError("from the chunks to the model", what)
    return np.asarray(vectors, dtype=np.float32), reasons


def _others(positions: Sequence[int], count: int) -> list[int]:
    if len(positions) == count:
        return []
    taken = set(positions)
    return [position for position in range(count) if position not in taken]
