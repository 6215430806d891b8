"""The contract between the indexer and a vector database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from adapters.filters import NO_FILTERS as NO_FILTERS
from adapters.filters import Filters as Filters
from adapters.schema import nearest
from engine.errors import UsageError
from engine.records import Hit, IndexSchema, Kind, Record, Vector


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """What a run asks of every database; an adapter ignores what it has no use for.

    `bulk_bytes` of records go in one request and at most `bulk_concurrency` requests are under way at once.
    `exact` asks for searches that compare all vectors; it is given only to a database that can. `task` names
    one writer of several at once: a database that takes one alone keeps what it writes apart, until `gather`.
    `threads` bounds those that a client library starts to compute with, and with them what it reads ahead;
    None leaves both to the library.
    """

    bulk_bytes: int = 8 * 2**20
    bulk_concurrency: int = 2
    exact: bool = False
    task: str | None = None
    threads: int | None = None


#: How `scan` gives embeddings back: bit by bit, as vectors of length 1, or not at all.
Fidelity: TypeAlias = Literal["exact", "normalised", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a database can do. The contract suite proves what is declared, and that the rest is refused.

    - `vectors`: how `scan` gives embeddings back.
    - `exact_count`: `count` counts every acknowledged record once.
    - `words`: it has `search_words`.
    - `filters`: `search` takes `Filters`.
    - `exact_search`: it heeds `AdapterOptions.exact`.
    - `single_writer`: it takes one writing process at a time; `prepare` refuses the second.
    - `native_upsert`: `write` never doubles a record, whatever `maybe_present` says.
    - `generations`: it has `begin_generation`.
    - `settles_s`: seconds after which a change that was acknowledged is seen by every reader; 0: at once.
    """

    vectors: Fidelity = "exact"
    exact_count: bool = True
    words: bool = False
    filters: bool = True
    exact_search: bool = False
    single_writer: bool = False
    native_upsert: bool = False
    generations: bool = False
    settles_s: float = 0.0


class Adapter(ABC):
    """One index in one database, used by one process.

    The promise, which `tests/adapters/contract.py` proves for every implementation:

    - **Idempotent.** Writing a record whose id is in the index leaves one record of that id, whatever was
      written before, in this process or in one that was killed.
    - **Acknowledged.** `write` returns only when the database has made the records durable by its own
      standard; a record whose outcome is None survives the death of this process and of the database's.
    - **Per record.** One record that the database refuses doesn't take the others with it.
    - **Retryable.** A database that doesn't answer raises `DatabaseUnavailableError`: nothing is known of the
      batch then, and the same call may be made again. Every other trouble that a user can mend raises
      `UsageError` (or its subclass `SchemaMismatchError`) with one line that says how.
    - **Bounded.** No list grows with the index; `scan` streams.
    - `close` frees the connection. It promises nothing about data: acknowledged records were safe before it.

    An adapter imports its client library inside its own module, which is imported only when a URL names it.
    """

    #: The URL scheme that selects this adapter.
    scheme: str

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this index can do: what its `Database` declares, or less where it was made with less."""

    #: Longest wait of a record for others to be written with; longer where each write is expensive.
    bulk_age_s: float = 1.0

    @abstractmethod
    def identity(self) -> str | None:
        """A string that changes when the index is deleted, replaced or restored; None without an index."""

    def state(self) -> str | None:
        """A string that changes with every write to the index by any writer; None where there is none.

        The caller uses it to tell whether others wrote since its own last run, and then calls no record new.
        An adapter with `native_upsert` needs none.
        """
        return None

    @abstractmethod
    def schema(self) -> IndexSchema | None:
        """What the existing index was made with, or None where there is no index.

        Raises `SchemaMismatchError` where something exists under that name which this engine didn't make.
        """

    @abstractmethod
    def ensure_schema(self, schema: IndexSchema) -> None:
        """Create the index, or check that the existing one fits; safe to race with another process.

        Fits: same `version`; each model that both name has the same digest and dimensions; same `fields`.
        A model that the existing index lacks is added to it. `chunker` may differ (the ids tell the records
        apart); the index then remembers the newest. Raises `SchemaMismatchError` that names both values.
        """

    @abstractmethod
    def write(self, records: Sequence[Record], maybe_present: bool) -> list[str | None]:
        """Write records; one outcome for each, by position: None is acknowledged, a string says why refused.

        `maybe_present` is False only where the caller knows that no record of these ids can be in the index:
        the batch may then simply be appended. Ids may repeat inside a batch; one record of each is left.
        """

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> int:
        """Delete by id; ids that are not there are no error. Returns how many were deleted."""

    @abstractmethod
    def scan(self, with_embeddings: bool = False, source: str | None = None) -> Iterator[dict[str, object]]:
        """Every record once as a mapping of the record's field names, streamed, in no particular order.

        With `source`, those of that file alone, found by the database. What is written or deleted while a
        scan goes on may be in it or not; no other record is left out or given twice for that.
        Both embedding fields are left out unless `with_embeddings`; then the record's own one is float32
        [dimensions] and the other None, and an index that can't give them raises `UsageError`. `indexed_at`
        and `mtime` are aware datetimes in UTC. `id` is what `delete` takes. A record that somebody else wrote
        or altered is given as far as it goes: what it lacks is None.
        """

    def count(self) -> int:
        """How many records the index holds, acknowledged writes included; 0 where there is no index.

        A database that can count does it better than by a scan.
        """
        return sum(1 for _ in self.scan())

    def search(self, kind: Kind, vector: Vector, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        """The k records of that kind nearest to `vector` (float32 [dimensions]), best first.

        With `filters`, the k nearest among those that pass: never fewer because a nearer one didn't; a
        `UsageError` where the database can't filter. A database that has no search is scanned whole.
        """
        return nearest(self.scan(with_embeddings=True), kind, vector, k, filters)

    def search_words(self, words: str, k: int, filters: Filters = NO_FILTERS) -> list[Hit]:
        """The k texts that share the most telling of these words (BM25), best first.

        Raises `UsageError` where the database can't search by words. `Hit.score` is the database's own.
        """
        raise UsageError(f"{self.scheme}:// can't search by words")

    def check_writer(self) -> None:  # noqa: B027 - a hook: most databases take any number of writers
        """Called at preflight: raises `UsageError` while another process writes to what takes one writer."""

    def prepare(self) -> None:  # noqa: B027 - a hook: most databases need nothing
        """Called once before a run's first write (an index may turn its refresh off here)."""

    def publish(self, expected: int | None = None) -> None:  # noqa: B027 - a hook
        """Called once when a run has written everything: make it searchable, compact, build indexes.

        A generation that was begun takes its predecessor's place here. Fewer than `expected` records in an
        index that can tell are an `EngineError`, and nothing takes any place then.
        """

    def gather(self) -> int:
        """Merge what writers with a `task` wrote separately; returns how many records were new to the index.

        Called by one process alone, when all of them have ended, before `publish`. It may be killed at any
        moment and called again.
        """
        return 0

    def begin_generation(self, schema: IndexSchema) -> bool:
        """Create an empty index beside the present one; later calls are for the new one.

        Search goes on in the old one until `publish`. False where there is none yet, or the database has no
        generations: then `ensure_schema` decides.
        """
        return False

    def resume(self, identity: str) -> bool:
        """Continue with the index of this identity if its load was never published; else False."""
        return False

    def size_bytes(self) -> int | None:
        """Bytes of the index on the database's disks, replicas left out; None where it doesn't say."""
        return None

    def drop(self) -> None:
        """Delete the index with all its generations; no error where there is none.

        Only for an index that the caller has made for itself. Raises `UsageError` where the database can't.
        """
        raise UsageError(f"{self.scheme}:// can't delete a whole index")

    def close(self) -> None:  # noqa: B027 - a hook
        """Free the connection. Safe to call twice."""
