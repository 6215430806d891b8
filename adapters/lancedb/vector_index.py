"""The vector index of a LanceDB table: from which size on, of which kind, how it is kept and searched.

Without one a search compares all vectors, which is exact and quick enough for some 250,000 of them. An index
sorts the vectors into partitions by their nearest centroid and keeps a code of each; a search looks into the
nearest partitions and compares the best by their codes once more by their vectors. Rows that are not in the
index yet are compared as without one.
"""

from __future__ import annotations

from typing import Any

from lancedb.index import IvfFlat, IvfRq, IvfSq

from adapters.schema import embedding_field
from engine.errors import UsageError

#: No index: each search compares all vectors.
EXACT = "exact"

#: Kinds of index by the names that a user gives them: a bit for each dimension (RaBitQ), a byte, the vectors.
#: Measured with a million vectors about topics, of 384 dimensions, by one thread: `ivf_rq` is built in 24 s
#: and has 66 MB. With 200,000 `ivf_sq` finds as much, is built in the same time, and has six times the bytes;
#: product quantisation takes 14 times as long.
INDEXES: dict[str, Any] = {"ivf_rq": IvfRq, "ivf_sq": IvfSq, "ivf_flat": IvfFlat}

#: `ivf_rq` takes multiples of this many dimensions alone, and a bit for each tells little where they are few.
RQ_DIMENSIONS, RQ_LEAST = 8, 128

#: Bytes of vectors from which on an index is worth while: 250,000 of 384 dimensions, which are compared in
#: 140 ms on two cores.
INDEX_FROM_BYTES = 384_000_000

#: Rows for each partition. LanceDB splits one that grows to four times as many when it adds to the index.
PARTITION_ROWS = 8192

#: Bytes of vectors from which the centroids are found, of at most so many for each: all are in memory, once
#: as they were read and once more normalised.
TRAINING_BYTES, TRAINING_ROWS = 48 << 20, 256

#: How many rows outside of an index, for each one in it, make it old: centroids are then sought anew, which
#: takes half the time and half the memory of splitting the old partitions (measured: 200,000 to a million).
OUTGROWN = 1.0

#: Partitions that a search looks into, and candidates for each hit that it compares by their vectors.
PROBES, REFINE = 64, 20

#: More partitions than there are: with a filter all are looked into, because what passes may be few and far.
ALL_PROBES = 1 << 20


def check_dimensions(where: str, kind: str | None, dimensions: int) -> None:
    """Raises `UsageError` where an index of that kind can't be made of vectors of so many dimensions."""
    if INDEXES.get(kind or EXACT) is IvfRq and dimensions % RQ_DIMENSIONS:
        raise UsageError(
            f"{where}: option index={kind} takes vectors of a multiple of {RQ_DIMENSIONS} dimensions, the"
            f" model's have {dimensions}; index=ivf_sq takes any"
        )


def drop_outgrown(table: Any) -> None:
    """Drop the indexes of vectors that are smaller than what they lack; `build` makes them anew.

    To be called before `optimize`, which would add all of that to them.
    """
    ours = {_name(embedding_field(kind)) for kind in ("text", "image")}
    for index in table.list_indices():
        # Other indices are the user's: of words, of a column; the engine could not make them again.
        if index.name in ours and index.num_unindexed_rows > OUTGROWN * index.num_indexed_rows:
            table.drop_index(index.name)


def build(table: Any, column: str, rows: int, kind: str | None) -> None:
    """See to it that the column, `rows` of which hold a vector, has the index it should have.

    `kind` None leaves the choice to its size: then an index that is there stays. The table's `optimize` has
    added new rows to it by then, and split what grew too large. A death at any moment leaves the table as it
    was before, or with the index.
    """
    name = _name(column)
    there = {index.name: index.index_type for index in table.list_indices()}.get(name)
    if kind == EXACT:
        if there is not None:
            table.drop_index(name)
        return
    dimensions = table.schema.field(column).type.list_size
    size = 4 * dimensions * rows
    if kind is None and (there is not None or size < INDEX_FROM_BYTES):
        return
    fits_rq = dimensions >= RQ_LEAST and dimensions % RQ_DIMENSIONS == 0
    chosen = INDEXES[kind or ("ivf_rq" if fits_rq else "ivf_sq")]
    if not rows or there == chosen.__name__:
        return
    partitions = max(1, rows // PARTITION_ROWS)
    sample = min(TRAINING_ROWS, max(1, TRAINING_BYTES // (4 * dimensions * partitions)))
    config = chosen(
        distance_type="cosine",
        num_partitions=partitions,
        target_partition_size=PARTITION_ROWS,
        sample_rate=sample,
    )
    table.create_index(column, config=config, name=name)


def _name(column: str) -> str:
    return f"{column}_idx"


def tuned(query: Any, filtered: bool) -> Any:
    """A search of the index where there is one: every hit's score is exact, and k that pass are found."""
    probes = ALL_PROBES if filtered else PROBES
    return query.minimum_nprobes(probes).maximum_nprobes(0).refine_factor(REFINE)
