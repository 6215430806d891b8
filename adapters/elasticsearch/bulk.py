"""Sends `_bulk` requests and resends what was not acknowledged, and only that.

The client's own helpers retry without a pause, stop at a broken connection and read ahead without bound, so
this uses the client's transport directly: bodies of bytes, a bounded number of requests and bytes in flight,
items identified by their position.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from urllib.parse import quote

import elasticsearch

from adapters.elasticsearch.flow import Pause, Window
from adapters.elasticsearch.location import RETRYABLE, Location, reason_of
from engine.errors import DatabaseUnavailableError, UsageError

#: Seconds without any progress after which the database counts as unavailable. Short, so that the run reports
#: it early; the caller decides how long to retry.
PATIENCE_SECONDS = 5.0

#: Statuses of an overload, and of a body that is too large.
OVERLOADED, TOO_LARGE = 429, 413

#: Item errors that pass or that an operator can remove: a freeze, a nearly full disk, a closed index.
LIFTED = frozenset({"cluster_block_exception", "index_closed_exception"})

#: The fields of an answer that are read: 30 bytes for an accepted item.
ANSWER_FIELDS = "errors,items.*.status,items.*.error.type,items.*.error.reason"


@dataclass(frozen=True, slots=True)
class Item:
    """The server's answer for one line: its status, and the reason where that is an error."""

    status: int
    error_type: str | None = None
    reason: str | None = None

    @property
    def retryable(self) -> bool:
        """Whether the same line may be accepted later."""
        return self.status in RETRYABLE or self.error_type in LIFTED


#: The answers without an error: created, found or deleted, nothing there to delete.
PLAIN = {status: Item(status) for status in (200, 201, 404)}


@dataclass(frozen=True, slots=True)
class _Part:
    """The lines of one request, with their positions."""

    positions: list[int]
    lines: list[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class _Reply:
    """The reply to a request: an answer for each line, or none and the reason."""

    items: list[Item] | None
    status: int = 200
    why: str = ""


class BulkSender:
    """Writes lines to one index that must exist, for one caller at a time.

    A request has at most `request_bytes` unless a single line is longer. At most `concurrency`
    requests are in flight, and all of them together have at most the product of both in bytes, or fewer after
    a server answered 429. `guard` is called before each request, in its thread: it raises where the index was
    replaced.
    """

    def __init__(
        self,
        client: elasticsearch.Elasticsearch,
        location: Location,
        guard: Callable[[], None],
        request_bytes: int,
        concurrency: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._location = location
        self._path = f"/{quote(location.index)}/_bulk"
        self._guard = guard
        self._request_bytes = request_bytes
        self._concurrency = concurrency
        self._clock = clock
        self._sleep = sleep
        self._window = Window(request_bytes * concurrency)
        self._threads = ThreadPoolExecutor(concurrency, "bulk")

    def aim(self, name: str) -> None:
        """Write to this index or alias from now on."""
        self._path = f"/{quote(name)}/_bulk"

    def close(self) -> None:
        """End the threads. Safe to call twice."""
        self._threads.shutdown()

    def send(self, lines: Iterable[bytes], require_alias: bool) -> list[Item]:
        """The server's answer to each line, by position; none of them is retryable.

        Lines are taken from the iterable when there is room to send them. Raises `DatabaseUnavailableError`
        where nothing is accepted for `PATIENCE_SECONDS` (any part of the lines may be in the index then), and
        `UsageError` where the index or the request as a whole is refused, `AccessError` where the credentials
        are.
        """
        load = _Load(lines)
        pause = Pause(self._clock)
        under_way: dict[Future[_Reply], tuple[_Part, int]] = {}
        try:
            while True:
                while len(under_way) < self._concurrency and not pause.left:
                    budget = min(self._request_bytes, max(1, int(self._window.limit) // self._concurrency))
                    part = load.next(budget) if self._window.admits(budget) else None
                    if part is None:
                        break
                    ticket = self._window.take(part.size)
                    under_way[self._threads.submit(self._post, part.lines, require_alias)] = part, ticket
                if under_way:
                    # A pause may be over before any of them has its answer.
                    done, _ = wait(under_way, pause.left or None, FIRST_COMPLETED)
                    for future in done:
                        part, ticket = under_way.pop(future)
                        self._settle(load, pause, part, ticket, future)
                elif pause.left:
                    self._sleep(pause.left)
                elif load.done:
                    return load.answers()
        finally:
            # No record is ever in two requests at once, also where the caller retries.
            wait(under_way)
            for part, _ in under_way.values():
                self._window.settled(part.size)

    def _settle(self, load: _Load, pause: Pause, part: _Part, ticket: int, future: Future[_Reply]) -> None:
        """Handle the reply to a request. Raises `DatabaseUnavailableError` after `PATIENCE_SECONDS`."""
        try:
            reply = future.result()
        except BaseException:
            self._window.settled(part.size)
            raise
        if reply.items is None:
            if reply.status == TOO_LARGE:
                self._window.settled(part.size)
                self._split(load, part, reply.why)
                return
            load.again(part)
            why, overloaded, progress = reply.why, reply.status == OVERLOADED, False
        else:
            refused = load.take_in(part, reply.items)
            progress = len(refused) < len(part.lines)
            overloaded = any(item.status == OVERLOADED for item in refused)
            why = f"status {refused[0].status}: {refused[0].reason}" if refused else ""
        if overloaded:
            self._window.refused(part.size, ticket)
        elif why:
            self._window.settled(part.size)
        else:
            self._window.acknowledged(part.size)
        if progress:
            pause.progressed()
        if why:
            pause.failed()
            if pause.stalled >= PATIENCE_SECONDS:
                raise DatabaseUnavailableError(
                    f"{self._location.url}: accepted no record for {PATIENCE_SECONDS:.0f} s ({why})"
                )

    def _split(self, load: _Load, part: _Part, why: str) -> None:
        """Halve the size of later requests: still more than half of what the server accepts."""
        if len(part.lines) == 1:
            load.take_in(part, [Item(TOO_LARGE, "too_large", why or "the record is too large")])
        else:
            self._request_bytes = max(1, min(self._request_bytes, part.size // 2))
            load.again(part)

    def _post(self, lines: Sequence[bytes], require_alias: bool) -> _Reply:
        """One request, in a thread of its own."""
        try:
            with self._location.errors():
                self._guard()
                answer = self._request(b"".join(lines), require_alias)
        except DatabaseUnavailableError as error:
            return _Reply(None, why=str(error))
        if isinstance(answer, _Reply):
            return answer
        items = _items(answer)
        if items is None or len(items) != len(lines):
            return _Reply(None, why="its answer does not list every record")
        for item in items:
            if item.error_type is None:
                continue
            if item.error_type == "index_not_found_exception":
                raise UsageError(f"{self._location.url}: the index was deleted during the run")
            if item.status in (401, 403) and not item.retryable:
                raise self._location.refused(item.status, str(item.reason))
        return _Reply(items)

    def _request(self, body: bytes, require_alias: bool) -> object:
        """The answer's body; a `_Reply` where the request may be sent again, smaller or later."""
        try:
            # Not `client.bulk`: that calls the body NDJSON, which the client copies twice on its way.
            return self._client.perform_request(
                "PUT",
                self._path,
                params={"filter_path": ANSWER_FIELDS} | ({"require_alias": "true"} if require_alias else {}),
                headers={"accept": "application/json", "content-type": "application/json"},
                body=body,
            ).body
        except elasticsearch.ApiError as error:
            status = error.status_code
            if status in (OVERLOADED, TOO_LARGE):
                return _Reply(None, status, f"status {status}: {reason_of(error.body)}")
            if 300 <= status < 400:
                # Never followed: the credentials are for the server that the user named.
                return _Reply(None, status, f"status {status}: a redirect, which is not followed")
            raise


class _Load:
    """The lines of one call: not yet sent, to be sent again, answered."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._fresh: Iterator[tuple[int, bytes]] = enumerate(lines)
        self._again: deque[tuple[int, bytes]] = deque()
        self._items: dict[int, Item] = {}
        self._pulled = 0
        self._exhausted = False

    @property
    def done(self) -> bool:
        """Whether nothing is left to send."""
        return self._exhausted and not self._again

    def next(self, budget: int) -> _Part | None:
        """The next lines of at most `budget` bytes together, or a single longer one; None without any."""
        positions: list[int] = []
        lines: list[bytes] = []
        size = 0
        for waiting in self._waiting():
            position, line = waiting
            size += len(line)
            if lines and size > budget:
                self._again.appendleft(waiting)
                size -= len(line)
                break
            positions.append(position)
            lines.append(line)
        return _Part(positions, lines, size) if lines else None

    def again(self, part: _Part) -> None:
        """Send all of the part again."""
        self._again.extendleft(reversed(list(zip(part.positions, part.lines, strict=True))))

    def take_in(self, part: _Part, items: Sequence[Item]) -> list[Item]:
        """Keep the answers; returns those after which the line is to be sent again."""
        self._items.update(zip(part.positions, items, strict=True))
        refused = [index for index, item in enumerate(items) if item.status not in PLAIN and item.retryable]
        self._again.extend((part.positions[index], part.lines[index]) for index in refused)
        return [items[index] for index in refused]

    def answers(self) -> list[Item]:
        """All answers, by position."""
        return [self._items[position] for position in range(self._pulled)]

    def _waiting(self) -> Iterator[tuple[int, bytes]]:
        """Lines to send, taken out of where they are; first those that were sent before."""
        while self._again:
            yield self._again.popleft()
        for pulled in self._fresh:
            self._pulled += 1
            yield pulled
        self._exhausted = True


def _items(body: object) -> list[Item] | None:
    """The items of an answer, or None where it isn't one."""
    items: list[Item] = []
    try:
        for entry in body["items"]:  # type: ignore[index]
            (answer,) = entry.values()
            status, error = int(answer["status"]), answer.get("error")
            if error is not None:
                items.append(Item(status, error.get("type"), error.get("reason")))
            else:
                items.append(PLAIN.get(status) or Item(status))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return items
