"""Search requests, and the hits in their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapters.base import Filters
from adapters.schema import embedding_field
from engine.records import Hit, Kind, Vector

#: Candidates that the graph search visits at least, in each shard; more find better neighbours.
LEAST_CANDIDATES = 100

#: The server's own bound on candidates, on k and on the hits of one answer.
MOST_CANDIDATES = 10_000

#: Vectors compared exactly for each that is asked for, since the graph holds them in fewer bits.
OVERSAMPLE = 2.0

#: Fields of a stored document that make a hit.
HIT_FIELDS = ["source", "page", "text", "document", "title", "headings"]


def nearest(kind: Kind, unit: Vector, k: int, filters: Filters) -> dict[str, Any]:
    """The k nearest to a vector of length 1 (`dot_product` refuses any other) among those that pass.

    The server applies a filter inside `knn` while it walks the graph, so that k are found all the same.
    """
    size = min(k, MOST_CANDIDATES)
    knn = {
        "field": embedding_field(kind),
        "query_vector": unit.tolist(),
        "k": size,
        "num_candidates": min(max(LEAST_CANDIDATES, 2 * size), MOST_CANDIDATES),
        "rescore_vector": {"oversample": OVERSAMPLE},
        "filter": _clauses(filters),
    }
    return {"knn": knn, "size": size, "source_includes": HIT_FIELDS}


def shared_words(words: str, k: int, filters: Filters) -> dict[str, Any]:
    """The k texts with the best BM25 score for these words, which are no query language."""
    asked = {"bool": {"must": {"match": {"text": words}}, "filter": _clauses(filters)}}
    return {"query": asked, "size": min(k, MOST_CANDIDATES), "source_includes": HIT_FIELDS}


def hits(answer: Mapping[str, Any], kind: Kind, score: Callable[[float], float] = float) -> list[Hit]:
    """The hits of an answer in its order; `score` turns the server's score into ours."""
    found = []
    for hit in answer["hits"]["hits"]:
        source = hit["_source"]
        values = {name: source.get(name) for name in HIT_FIELDS}
        found.append(Hit(id=hit["_id"], kind=kind, score=score(hit["_score"]), **values))
    return found


def cosine_of(server_score: float) -> float:
    """The cosine similarity: the server scores (1 + cosine) / 2 so that no score is negative."""
    return 2.0 * server_score - 1.0


def _clauses(filters: Filters) -> list[dict[str, Any]]:
    clauses: list[dict[str, Any]] = []
    if filters.source_prefix:
        clauses.append({"prefix": {"source": filters.source_prefix}})
    if filters.media_type is not None:
        clauses.append({"term": {"media_type": filters.media_type}})
    return clauses
