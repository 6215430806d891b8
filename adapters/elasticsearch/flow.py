"""How much a server is asked to take at once, and how long it is left alone after it refused."""

from __future__ import annotations

import random
from collections.abc import Callable

#: The window grows by this share of its largest size for each whole window that was acknowledged.
GROWTH_SHARE = 1 / 32

#: Seconds of the first pause at most; each further one may be twice as long, up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Window:
    """Bytes that may be under way at once: additive increase, multiplicative decrease, as in TCP.

    A refusal halves `limit`, once for all requests that were under way when it was halved: they tell of the
    same overload (RFC 5681 halves once for each window of data). An acknowledgement grows it by its share of
    `GROWTH_SHARE`, and by no more than its own size where the limit is smaller than that (slow start).
    """

    def __init__(self, most: int) -> None:
        self._most = float(max(1, most))
        self.limit = self._most
        self.under_way = 0
        self._halvings = 0

    def admits(self, size: int) -> bool:
        """Whether a request of this size may start now; one may always, however small the window is."""
        return not self.under_way or self.under_way + size <= self.limit

    def take(self, size: int) -> int:
        """Count a request that starts. Returns its ticket, which `refused` wants back."""
        self.under_way += size
        return self._halvings

    def settled(self, size: int) -> None:
        """A request ended in a way that tells nothing of the load: broken, or refused for another reason."""
        self.under_way -= size

    def acknowledged(self, size: int) -> None:
        """A request ended with all of it taken."""
        self.under_way -= size
        step = min(self._most * GROWTH_SHARE, self.limit)
        self.limit = min(self._most, self.limit + step * min(1.0, size / self.limit))

    def refused(self, size: int, ticket: int) -> None:
        """A request ended with 429 for all or a part of it."""
        self.under_way -= size
        if ticket == self._halvings:
            self._halvings += 1
            self.limit = max(1.0, self.limit / 2)


class Pause:
    """Full-jitter back-off (Brooker, "Exponential Backoff And Jitter", 2015), and how long nothing got on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.progressed()

    def progressed(self) -> None:
        """The server took something: begin anew."""
        self._since: float | None = None
        self._until = 0.0
        self._longest = FIRST_PAUSE

    def failed(self) -> None:
        """The server took nothing: wait a random while, which may be longer each time."""
        now = self._clock()
        if self._since is None:
            self._since = now
        if now >= self._until:  # requests that fail together are one failure
            self._until = now + random.uniform(0, self._longest)
            self._longest = min(2 * self._longest, LONGEST_PAUSE)

    @property
    def left(self) -> float:
        """Seconds until the next request may start."""
        return max(0.0, self._until - self._clock())

    @property
    def stalled(self) -> float:
        """Seconds since the first failure after which nothing got on."""
        return 0.0 if self._since is None else self._clock() - self._since
