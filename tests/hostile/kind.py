"""A kind of hostile file: how one is made, and what must become of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Kind:
    """The `states` it may end in, and a regular expression for its message, or the rule it is left out by."""

    name: str
    make: Callable[[], bytes]
    states: str
    says: str = ""


def cuts(name: str, data: Callable[[], bytes], states: str, says: str = "") -> Iterator[Kind]:
    """The file truncated at every tenth, from nothing to one byte less than all."""
    stem, _, suffix = name.rpartition(".")
    for tenth in range(1, 11):
        yield Kind(
            f"{stem} cut at {tenth} tenths.{suffix}",
            partial(_cut, data, tenth),
            states,
            says,
        )


def flips(name: str, data: Callable[[], bytes], states: str, says: str = "") -> Iterator[Kind]:
    """The file with some bits flipped, differently each time and the same in each run."""
    stem, _, suffix = name.rpartition(".")
    for seed in range(4):
        yield Kind(f"{stem} flipped {seed}.{suffix}", partial(_flipped, data, seed), states, says)


def _cut(data: Callable[[], bytes], tenth: int) -> bytes:
    return data()[: len(data()) * tenth // 10 - (tenth == 10)]


def _flipped(data: Callable[[], bytes], seed: int) -> bytes:
    """One bit in about 200 bytes turned."""
    chosen = random.Random(seed)
    broken = bytearray(data())
    for _ in range(max(3, len(broken) // 200)):
        broken[chosen.randrange(len(broken))] ^= 1 << chosen.randrange(8)
    return bytes(broken)
