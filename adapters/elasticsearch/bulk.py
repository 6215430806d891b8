"""Sends `_bulk` requests and resends what was not acknowledged, and only that.

The client's own helpers retry without a pause, stop at a broken connection and read ahead without bound, so
this goes straight to the client's transport: one request in flight, a body of bytes, items told apart by
their position.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import elastic_transport
import elasticsearch

from adapters.elasticsearch.location import RETRYABLE, Location, reason_of
from engine.errors import DatabaseUnavailableError, UsageError

#: Bytes of one request's body at most, unless a single line is longer.
BODY_BYTES = 8 << 20

#: Seconds without any progress after which the database counts as unavailable.
PATIENCE_SECONDS = 30.0

#: Seconds of the first pause at most; each further one may be twice as long.
FIRST_PAUSE = 0.1

#: Seconds of any pause at most.
LONGEST_PAUSE = 5.0

#: Status of an answer to a body that is too large.
TOO_LARGE = 413


@dataclass(frozen=True, slots=True)
class Item:
    """The server's answer for one line: its status, and the reason where that is an error."""

    status: int
    error_type: str | None = None
    reason: str | None = None

    @property
    def retryable(self) -> bool:
        """A block (the disk is nearly full, an operator's freeze) is lifted again, like an overload."""
        return self.status in RETRYABLE or self.error_type == "cluster_block_exception"


class _NoAnswerError(Exception):
    """Nothing is known of the request's items; the text says why."""


class _TooLargeError(Exception):
    """The server took nothing of a body of this size."""


class BulkSender:
    """Writes lines to one index that must exist.

    `guard` is called before each request: it raises where the index is no longer the one that is meant.
    """

    def __init__(
        self, client: elasticsearch.Elasticsearch, location: Location, guard: Callable[[], None]
    ) -> None:
        self._client = client
        self._location = location
        self._guard = guard

    def send(self, lines: Sequence[bytes], require_alias: bool) -> list[Item]:
        """The server's answer to each line, by position; none of them is retryable.

        Raises `DatabaseUnavailableError` after `PATIENCE_SECONDS` without progress, `UsageError` where the
        server refuses the whole request or the index is gone.
        """
        items: dict[int, Item] = {}
        parts = deque(_parts(lines))
        pause = _Pause()
        while parts:
            part = parts.popleft()
            try:
                answers = self._post([lines[index] for index in part], require_alias)
            except _TooLargeError as error:
                if len(part) == 1:
                    items[part[0]] = Item(TOO_LARGE, "too_large", str(error))
                else:
                    parts.extendleft([part[len(part) // 2 :], part[: len(part) // 2]])
                continue
            except _NoAnswerError as error:
                parts.appendleft(part)
                self._wait(pause, str(error))
                continue
            again = [index for index, item in zip(part, answers, strict=True) if item.retryable]
            items.update((i, item) for i, item in zip(part, answers, strict=True) if not item.retryable)
            if len(again) < len(part):
                pause = _Pause()
            if again:
                parts.appendleft(again)
                refused = next(item for item in answers if item.retryable)
                self._wait(pause, f"status {refused.status}: {refused.reason}")
        return [items[index] for index in range(len(lines))]

    def _wait(self, pause: _Pause, why: str) -> None:
        if not pause.wait():
            raise DatabaseUnavailableError(
                f"{self._location.url}: took nothing for {PATIENCE_SECONDS:.0f} s ({why})"
            )

    def _post(self, lines: Sequence[bytes], require_alias: bool) -> list[Item]:
        try:
            self._guard()
            with self._location.errors():
                answer = self._request(b"".join(lines), require_alias)
        except DatabaseUnavailableError as error:
            raise _NoAnswerError(str(error)) from None
        items = _items(answer.body)
        if items is None or len(items) != len(lines):
            raise _NoAnswerError("its answer does not list every record")
        for item in items:
            if item.error_type == "index_not_found_exception":
                raise UsageError(f"{self._location.url}: the index was deleted during the run")
            if item.status in (401, 403) and not item.retryable:
                raise self._location.refused(item.status, str(item.reason))
        return items

    def _request(self, body: bytes, require_alias: bool) -> elastic_transport.ObjectApiResponse[object]:
        try:
            return self._client.bulk(
                index=self._location.index,
                operations=body,  # type: ignore[arg-type]  # bytes pass unchanged
                require_alias=require_alias or None,
                filter_path="errors,items.*.status,items.*.error.type,items.*.error.reason",
            )
        except elasticsearch.ApiError as error:
            if error.status_code == TOO_LARGE:
                raise _TooLargeError(reason_of(error.body)) from None
            raise


def _parts(lines: Sequence[bytes]) -> Iterator[list[int]]:
    """Positions of the lines of one request each."""
    part: list[int] = []
    size = 0
    for index, line in enumerate(lines):
        if part and size + len(line) > BODY_BYTES:
            yield part
            part, size = [], 0
        part.append(index)
        size += len(line)
    if part:
        yield part


def _items(body: object) -> list[Item] | None:
    """The items of an answer, or None where it isn't one."""
    try:
        answers = [next(iter(entry.values())) for entry in body["items"]]  # type: ignore[index]
        return [
            Item(int(a["status"]), (a.get("error") or {}).get("type"), (a.get("error") or {}).get("reason"))
            for a in answers
        ]
    except (TypeError, KeyError, ValueError, AttributeError, StopIteration):
        return None


class _Pause:
    """Full-jitter back-off (Brooker, "Exponential Backoff And Jitter", 2015) with an end."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._longest = FIRST_PAUSE

    def wait(self) -> bool:
        """Sleep a random while, or return False where the patience is at its end."""
        now = time.monotonic()
        self._deadline = self._deadline or now + PATIENCE_SECONDS
        if now >= self._deadline:
            return False
        time.sleep(min(random.uniform(0, self._longest), self._deadline - now))
        self._longest = min(2 * self._longest, LONGEST_PAUSE)
        return True
