"""A Bloom filter of the ids in an index: it is certain of ids that are not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Bits for each id that is expected, and how many of them an id sets: of a million ids that are not there, 6
#: are then taken for one that may be (Bloom, "Space/time trade-offs in hash coding with allowable errors",
#: CACM 1970).
BITS_PER_ID, BITS_SET = 32, 8

#: Fewest and most bits: 128 KiB, and 16 MiB, which hold four million ids at that rate. At eight million one
#: in 2,000 ids that are not there is taken for one that may be.
LEAST_BITS, MOST_BITS = 2**20, 2**27

#: Bytes of an id that are hashed. Longer ids with the same beginning count as one, which is harmless.
ID_BYTES = 32

#: Odd numbers without pattern, from the digits of pi: multiplying by them spreads each bit.
_FACTORS = np.array(
    [
        [0x243F6A8885A308D3, 0x13198A2E03707345, 0xA4093822299F31D1, 0x082EFA98EC4E6C89],
        [0x452821E638D01377, 0xBE5466CF34E90C6D, 0xC0AC29B7C97C50DD, 0x3F84D5B5B5470917],
    ],
    dtype=np.uint64,
)


class Presence:
    """A Bloom filter of ids: finds each added id, and now and then one that was not added."""

    def __init__(self, expected: int) -> None:
        bits = 1 << max(0, BITS_PER_ID * expected - 1).bit_length()
        self._bits = min(max(bits, LEAST_BITS), MOST_BITS)
        self._words = np.zeros(self._bits // 64, np.uint64)
        self._ids = 0

    @property
    def crowded(self) -> bool:
        """Whether it holds so many ids that a larger filter, where allowed, would be more exact."""
        return self._bits < MOST_BITS and 2 * self._ids * BITS_PER_ID > 3 * self._bits

    def add(self, ids: Sequence[str]) -> None:
        """Add the ids."""
        if ids:
            places = self._places(ids).ravel()
            np.bitwise_or.at(self._words, places >> np.uint64(6), _bit(places))
            self._ids += len(ids)

    def may_hold(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that may be there."""
        if not ids:
            return []
        places = self._places(ids)
        found = (self._words[places >> np.uint64(6)] & _bit(places)).all(axis=0)
        return [ids[number] for number in np.flatnonzero(found).tolist()]

    def _places(self, ids: Sequence[str]) -> NDArray[np.uint64]:
        """The bits of each id, uint64 [BITS_SET, ids], by double hashing (Kirsch, Mitzenmacher, 2006)."""
        packed = np.array([one.encode() for one in ids], dtype=f"S{ID_BYTES}")
        words = packed.view("<u8").reshape(-1, ID_BYTES // 8)
        first, second = (_mixed((words * factors).sum(axis=1, dtype=np.uint64)) for factors in _FACTORS)
        steps = np.arange(BITS_SET, dtype=np.uint64)[:, None]
        return (first + steps * (second | np.uint64(1))) & np.uint64(self._bits - 1)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the high bits, which a product makes of all others, into the low ones."""
    values = (values ^ (values >> np.uint64(32))) * _FACTORS[0, 0]
    return values ^ (values >> np.uint64(29))


def _bit(places: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The bit of each place within its word."""
    return np.uint64(1) << (places & np.uint64(63))
