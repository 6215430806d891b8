"""How inputs of many lengths become batches that waste little on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of `lengths` in batches, longest first, each index once.

    A batch's padded size, its longest length times its count, stays within `budget` tokens; an input that is
    longer alone is a batch of its own. The longest comes first so that memory that doesn't suffice shows at
    once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
