"""Search by the models that an index was made with, each loaded once: for the command and for Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

import adapters
from adapters.base import NO_FILTERS, Adapter, AdapterOptions, Filters
from engine.api.arguments import arguments_named
from engine.api.hits import Contents, Hits, absolute_prefix, contents
from engine.config import DEFAULT_ADAPTER
from engine.errors import UsageError
from engine.models.choices import check_backend
from engine.models.load import load_caption, load_text
from engine.models.resolve import resolve_image, resolve_text
from engine.models.spec import ImageSpec, TextSpec
from engine.records import Hit, Kind, ModelInfo, Vector

if TYPE_CHECKING:
    from engine.api.embedding import EmbeddingModel

KINDS: tuple[Kind, ...] = ("text", "image")

#: Hits of each kind where nothing else is asked for.
DEFAULT_K = 10

#: Ranks of each list that a hybrid search merges, at least.
FUSED_RANKS = 100

#: What is added to a rank before the reciprocal is taken: the constant of Cormack and others (2009).
RANK_OFFSET = 60


class _EmbedsQueries(Protocol):
    def embed_query(self, text: str) -> Vector: ...


@dataclass
class _Model:
    """The model that queries for one kind are embedded with, loaded when the first one comes."""

    info: ModelInfo
    load: Callable[[], _EmbedsQueries]
    lock: AbstractContextManager[object] = field(default_factory=threading.RLock)
    loaded: _EmbedsQueries | None = None

    def vector(self, query: str) -> Vector:
        """float32 [dimensions]. Tokenizers serve one thread at a time."""
        with self.lock:
            if self.loaded is None:
                self.loaded = self.load()
            return self.loaded.embed_query(query)


class IndexSearch:
    """One index, for searches of any number of threads. What it raises names the command's options.

    The models are those that the index was made with, and one is loaded only where there is something that
    it could find. `model` is loaded already or shared with others; the index must have been made with it. An
    image model that it doesn't name is the index's. The other options are for models that are loaded here.

    What is written to the index while it is open is found; an index that is replaced by one of another model
    has that model loaded, or is refused.
    """

    def __init__(
        self,
        adapter: str | Adapter = DEFAULT_ADAPTER,
        model: EmbeddingModel | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        backend: str = "auto",
        exact: bool = False,
    ) -> None:
        check_backend(backend, device, dtype)
        self._own_adapter = isinstance(adapter, str)
        self._model = model
        self._device, self._dtype, self._backend = device, dtype, backend
        self._trust_remote_code = trust_remote_code
        self._models: dict[Kind, _Model] = {}
        #: Kinds of which the index was seen to hold a record, by the digest of their model.
        self._held: set[tuple[Kind, str]] = set()
        # An adapter serves one thread at a time.
        self._lock = threading.RLock()
        if isinstance(adapter, Adapter):
            self._adapter = adapter
            #: What messages call the index.
            self.where = f"{adapter.scheme}://"
        elif isinstance(adapter, str):
            self._adapter = adapters.connect(adapter, AdapterOptions(exact=exact))
            self.where = adapter
        else:
            raise UsageError(f"--adapter {adapter!r}: give the URL of a database, or an Adapter")

    def each(
        self,
        query: str,
        k: int = DEFAULT_K,
        kinds: Sequence[Kind] = KINDS,
        filters: Filters = NO_FILTERS,
        hybrid: bool = False,
    ) -> Iterator[tuple[Kind, list[Hit]]]:
        """For each kind its k nearest records, best first; a kind of which the index holds none is left out.

        A kind is searched when it is asked for, so that one model's hits can be shown before the next model
        is loaded; everything that can be refused without loading is refused at the first.

        With `hybrid`, texts that are near and texts that share words with the query are merged by their
        ranks (`fused`), where the database can search by words; pictures have none. Raises `UsageError` where
        there is no index, or its models are not to be had here, and `DatabaseUnavailableError` where the
        database doesn't answer.
        """
        if not query.strip():
            raise UsageError("the query is empty: give at least one word")
        if not isinstance(k, int) or k < 1:
            raise UsageError(f"-k {k}: give a whole number of at least 1")
        models = self._prepare(kinds, filters, hybrid)
        wide = max(k, FUSED_RANKS)
        shared: list[Hit] = []
        if hybrid and "text" in models:
            with self._lock:
                shared = self._adapter.search_words(query, wide, filters)
        for kind, model in models.items():
            if filters != NO_FILTERS and model.loaded is None and not self._passes(model.info, kind, filters):
                yield kind, []
                continue
            vector = model.vector(query)
            merge = hybrid and kind == "text"
            with self._lock:
                near = self._adapter.search(kind, vector, wide if merge else k, filters)
            yield kind, fused([near, shared], k) if merge else near

    def contents(self) -> Contents:
        """What the index holds, by media types and folders; of a large one, what its first records tell."""
        with self._lock:
            return contents(self._adapter.scan())

    def close(self) -> None:
        """Free the connection, unless the adapter is the caller's. Safe to call twice."""
        if self._own_adapter:
            with self._lock:
                self._adapter.close()

    def _prepare(self, kinds: Sequence[Kind], filters: Filters, hybrid: bool) -> dict[Kind, _Model]:
        """The models for those of the kinds that the index holds; nothing is loaded yet."""
        with self._lock:
            able = self._adapter.capabilities
            if hybrid and not able.words:
                raise UsageError(f"--hybrid: {self.where}: {adapters.lacking('words')}")
            if filters != NO_FILTERS and not able.filters:
                raise UsageError(
                    f"--source-prefix, --media-type: {self.where}: {adapters.lacking('filters')}"
                )
            schema = self._adapter.schema()
            if schema is None:
                raise UsageError(
                    f"{self.where}: no index there; python -m engine.run INPUT... --adapter {self.where}"
                    " makes one"
                )
            made_with = {"text": schema.text_model, "image": schema.image_model}
            return {
                kind: self._model_of(info, kind)
                for kind in kinds
                if (info := made_with[kind]) is not None and self._holds(info, kind)
            }

    def _holds(self, info: ModelInfo, kind: Kind) -> bool:
        """Whether the index holds any record of the kind; an index of pictures may name a text model too."""
        if (kind, info.digest) not in self._held:
            if not self._passes(info, kind, NO_FILTERS):
                return False
            self._held.add((kind, info.digest))
        return True

    def _passes(self, info: ModelInfo, kind: Kind, filters: Filters) -> bool:
        """Whether any record of the kind passes, told without its model."""
        any_direction = np.full(info.dimensions, info.dimensions**-0.5, dtype=np.float32)
        with self._lock:
            return bool(self._adapter.search(kind, any_direction, 1, filters))

    def _model_of(self, info: ModelInfo, kind: Kind) -> _Model:
        known = self._models.get(kind)
        if known is None or (known.info.digest, known.info.dimensions) != (info.digest, info.dimensions):
            known = self._models[kind] = self._given(info, kind) or self._found(info, kind)
        return known

    def _given(self, info: ModelInfo, kind: Kind) -> _Model | None:
        """The caller's own model; None where it says nothing of that kind."""
        model = self._model
        if model is None or (kind == "image" and model.image_model is None):
            return None
        spec: TextSpec | ImageSpec = model.text if kind == "text" else model.image
        if (spec.digest, spec.dimensions) != (info.digest, info.dimensions):
            raise UsageError(
                f"{self.where}: the index was made with {kind} model {_described(info)}, and"
                f" {_described(spec.info)} was given: give the first, or none"
            )
        return _Model(info, model.load_text if kind == "text" else model.load_caption, model.lock)

    def _found(self, info: ModelInfo, kind: Kind) -> _Model:
        """The model by the name in the index, if it still is what the index was made with."""
        without = f"--kind {'image' if kind == 'text' else 'text'} does without"
        try:
            spec: TextSpec | ImageSpec
            if kind == "text":
                spec = resolve_text(info.name, trust_remote_code=self._trust_remote_code)
            else:
                spec = resolve_image(info.name)
        except UsageError as error:
            raise UsageError(
                f"{self.where}: the index was made with {kind} model {info.name}, which is not to be had"
                f" here: {error} ({without})"
            ) from error
        if (spec.digest, spec.dimensions) != (info.digest, info.dimensions):
            raise UsageError(
                f"{self.where}: the index was made with {kind} model {_described(info)}; under that name"
                f" here is {_described(spec.info)}: bring back the files of the first, or index anew with the"
                f" second ({without})"
            )
        return _Model(info, lambda: self._load(spec))

    def _load(self, spec: TextSpec | ImageSpec) -> _EmbedsQueries:
        if isinstance(spec, TextSpec):
            # What loads fastest: queries are not worth a calibration, nor what it may have chosen.
            return load_text(spec, self._device, self._dtype, self._backend, measure=False)
        return load_caption(spec, self._device, self._dtype)


class Searcher(IndexSearch):
    """An index, searched by meaning: texts, and pictures by words that describe them.

    `adapter` is the index's URL, or an `Adapter`. The models are those that the index was made with, each
    loaded once, at the first search that needs it; `model` is one that is loaded already, or a text model's
    name. `device`, `dtype`, `trust_remote_code` and `backend` are for models that are loaded here; `exact`
    compares all vectors, where the database can. Safe for any number of threads; a context manager.

    Raises `UsageError` where it can't work as asked, `DatabaseUnavailableError` where the database doesn't
    answer.
    """

    def __init__(
        self,
        adapter: str | Adapter = DEFAULT_ADAPTER,
        model: EmbeddingModel | str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        backend: str = "auto",
        exact: bool = False,
    ) -> None:
        with arguments_named():
            given = None
            if model is not None:
                from engine.api.embedding import the_model

                given = the_model(model)
            super().__init__(
                adapter,
                given,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                backend=backend,
                exact=exact,
            )

    def search(
        self,
        query: str,
        k: int = DEFAULT_K,
        kind: Kind | None = None,
        *,
        source_prefix: str | None = None,
        media_type: str | None = None,
        hybrid: bool = False,
    ) -> Hits:
        """The k nearest texts and the k nearest pictures, or those of one `kind` alone.

        `source_prefix` is how a source begins; a relative path is made absolute. `hybrid` merges nearness
        with shared words, where the database can.
        """
        with arguments_named():
            if kind not in (None, *KINDS):
                raise UsageError(f"kind={kind!r}: give 'text' or 'image', or None for both")
            if not isinstance(query, str):
                raise UsageError(f"query={query!r}: give one text")
            for name, given in (("source_prefix", source_prefix), ("media_type", media_type)):
                if not isinstance(given, str | None):
                    raise UsageError(f"{name}={given!r}: give a text, or None")
            filters = Filters(absolute_prefix(source_prefix) if source_prefix else None, media_type)
            found = dict(self.each(query, k, (kind,) if kind else KINDS, filters, hybrid))
        return Hits(query, tuple(found.get("text", ())), tuple(found.get("image", ())))

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Searcher({self.where!r})"


def fused(rankings: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """The k best of several rankings by reciprocal rank: a hit scores the sum of 1 / (60 + its rank).

    Ranks alone count, since a cosine and a BM25 score have no common measure (Cormack, Clarke, Büttcher,
    "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009).
    """
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (RANK_OFFSET + rank)
            hits.setdefault(hit.id, hit)
    best = sorted(scores, key=lambda one: (-scores[one], one))[:k]
    return [replace(hits[one], score=scores[one]) for one in best]


def _described(model: ModelInfo) -> str:
    return f"{model.name} ({model.dimensions} dimensions, digest {model.digest[:12]})"
