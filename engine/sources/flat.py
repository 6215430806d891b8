"""Sources that only say what an input holds: rules, overlaps and failures are the same for all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from engine.errors import UsageError
from engine.sources.base import Found, Item, Listing, Rules, Source, Unreadable


class FlatSource(Source):
    """A source without links or folders of its own: an input is how the URIs of its items begin."""

    @abstractmethod
    def items(self, name: str) -> Iterator[Item]:
        """Each item of an input, lazily. Raises `OSError` where it can't be listed, or not to its end."""

    def absolute(self, name: str) -> str:
        return name

    def check(self, inputs: Sequence[str]) -> None:
        for name in inputs:
            try:
                next(self.items(name), None)
            except OSError as error:
                raise UsageError(f"input {name}: {error.strerror or error}") from None

    def listing(self, inputs: Sequence[str], rules: Rules) -> FlatListing:
        return FlatListing(self, inputs, rules)

    def prefix(self, name: str) -> str | None:
        return name.rstrip("/") + "/"


class FlatListing(Listing):
    """An item belongs to the first input that its URI begins with."""

    def __init__(self, source: FlatSource, inputs: Sequence[str], rules: Rules) -> None:
        self._source = source
        self._rules = rules
        self._prefixes = [source.prefix(name) or name for name in inputs]
        self._inputs = inputs

    def __iter__(self) -> Iterator[Found]:
        for rank, name in enumerate(self._inputs):
            yield from self._items(name, tuple(self._prefixes[:rank]))

    def more(self, name: str) -> Iterator[Found]:
        yield from self._items(name, tuple(self._prefixes))

    def _items(self, name: str, others: tuple[str, ...]) -> Iterator[Found]:
        """What that name holds and the inputs that begin like the others don't."""
        prefix = self._source.prefix(name) or name
        try:
            for item in self._source.items(name):
                if not item.uri.startswith(others):
                    relative = item.uri.removeprefix(prefix)
                    yield from self._rules.select(item.uri, relative, item)
        except OSError as error:
            self.complete = False
            yield Unreadable(name, error.strerror or str(error))
