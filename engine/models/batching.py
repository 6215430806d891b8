"""Forms batches from inputs of many lengths with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.errors import EngineError
from engine.records import Vector


class TooLargeError(EngineError):
    """The inputs at `positions` don't fit in the device's memory, each even alone; the others are embedded.

    `vectors`, float32 [n, dimensions], has a row for every input, of NaN for those that don't fit.
    """

    def __init__(self, vectors: Vector, positions: Sequence[int]) -> None:
        super().__init__("the model's input does not fit in the device's memory even alone")
        self.vectors = vectors
        self.positions = positions


def batches(lengths: Sequence[int], budget: int, workers: int = 0) -> Iterator[list[int]]:
    """Indices of `lengths` in batches, longest first, each index once.

    A batch with its padding stays within `budget` tokens; an input that is longer alone is a batch of its
    own. The longest comes first so that memory that doesn't suffice shows at once. Where so many `workers`
    take them one by one, the last ones are smaller, half of a worker's share of what is left, so that all
    come to an end together (as guided self-scheduling does it, Polychronopoulos and Kuck 1987).
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batch: list[int] = []
    tokens, left = 0, sum(lengths)
    for index in order:
        most = min(budget, left // (2 * workers)) if workers else budget
        padded = (len(batch) + 1) * lengths[batch[0] if batch else index]
        if batch and padded > most:
            yield batch
            left -= tokens
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def padded_length(longest: int, bucket: int, most: int | None) -> int:
    """Tokens that a batch's rows are padded to: a multiple of `bucket`, so that there are few shapes, but no
    more than the `most` that the model reads (None: no limit), unless the `longest` input has more."""
    rounded = -(-longest // bucket) * bucket
    return max(longest, min(rounded, most or rounded))
