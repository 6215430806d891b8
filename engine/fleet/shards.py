"""How a corpus is shared out: more shards than tasks run at once, and those with the most bytes first.

A file belongs to the shard that the hash of its path gives, for ever. Where a launcher starts the next shard
when one has ended, as SLURM does with `--array=0-N%M`, uneven shards, slow nodes and preemptions even out by
themselves; what is begun last decides the end, so that the heaviest shards are begun first.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.config import Config
from engine.runtime.flow.intake import corpus_of
from engine.sources.base import Item, shard_of

#: Shards for each task that runs at once: see "Fleets" in benchmarks/README.md.
SHARDS_PER_TASK = 32

#: Work of a file besides what its bytes cost, in bytes: opening, booking, a row in the ledger.
FILE_BYTES = 4096


def work_of_shards(config: Config, shards: int) -> list[int]:
    """The work of each shard in bytes, by one listing of the corpus. Raises `UsageError`."""
    work = [0] * shards
    for item in corpus_of(config, (0, 1)):
        if isinstance(item, Item):
            work[shard_of(item.uri, shards)] += item.size + FILE_BYTES
    return work


def heaviest_first(work: Sequence[float]) -> list[int]:
    """The shards in the order in which they are to be begun."""
    return sorted(range(len(work)), key=lambda shard: -work[shard])
