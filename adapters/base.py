"""The contract between the indexer and a vector database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from engine.records import Hit, IndexSchema, Kind, Record, Vector


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

    @abstractmethod
    def identity(self) -> str | None:
        """A word that changes when the index is deleted, replaced or restored; None without an index."""

    def state(self) -> str | None:
        """A word that changes with every write to the index, by whomever; None where there is no such word.

        The caller uses it to tell whether others wrote since its own last run, and then calls no record new.
        An adapter whose `write` never doubles anything, whatever `maybe_present` says, needs none.
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
    def scan(self, with_embeddings: bool = False) -> Iterator[dict[str, object]]:
        """Every record once as a mapping of the record's field names, streamed, in no particular order.

        Both embedding fields are left out unless `with_embeddings`; then the record's own one is float32
        [dimensions] and the other None. `indexed_at` and `mtime` are aware datetimes in UTC.
        """

    @abstractmethod
    def count(self) -> int:
        """How many records the index holds, acknowledged writes included; 0 where there is no index."""

    @abstractmethod
    def search(self, kind: Kind, vector: Vector, k: int) -> list[Hit]:
        """The k records of that kind nearest to `vector` (float32 [dimensions]), best first."""

    def prepare(self) -> None:  # noqa: B027 - a hook: most databases need nothing
        """Called once before a run's first write (an index may turn its refresh off here)."""

    def publish(self) -> None:  # noqa: B027 - a hook
        """Called once when a run has written everything: make it searchable, compact, build indexes."""

    @abstractmethod
    def close(self) -> None:
        """Free the connection. Safe to call twice."""
