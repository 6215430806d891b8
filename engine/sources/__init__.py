"""Where items come from: one source for each URL scheme, and the corpus that several of them make up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from engine.errors import UsageError
from engine.registry import Registry
from engine.sources.base import Found, Item, Listing, OpenedItem, Rules, Source
from engine.sources.manifest import check_manifest, listed

#: The sources by URL scheme; a name without a scheme is a local path.
REGISTRY = Registry(
    "sources",
    {"file": "engine.sources.local:LocalSource", "memory": "engine.sources.memory:MemorySource"},
    base=Source,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@cache
def source_for(scheme: str) -> Source:
    """The source of a scheme. Raises `UsageError` for one that is not known or not installed."""
    if scheme not in REGISTRY:
        # What is in a Python program's memory can't be named.
        known = ", ".join(f"{name}://" for name in REGISTRY.names() if name != "memory")
        raise UsageError(f"{scheme}://: no source reads that; give paths, or URLs of {known}")
    source: Source = REGISTRY.get(scheme)()
    return source


def scheme_of(name: str) -> str:
    """The scheme of an input or of an item's URI; `file` for a path."""
    found = _SCHEME.match(name)
    return found[1].lower() if found else "file"


def absolute(name: str) -> str:
    """An input in a form that means the same from every working folder. Raises `UsageError`."""
    return source_for(scheme_of(name)).absolute(name)


def open_item(item: Item) -> OpenedItem:
    """The item's content, opened by the source of its scheme. Raises `OSError`."""
    return source_for(scheme_of(item.uri)).open(item)


def opens_cheaply(item: Item) -> bool:
    """Whether it costs next to nothing to open the item and see how it begins."""
    return source_for(scheme_of(item.uri)).opens_cheaply


def item_now(item: Item) -> Item | None:
    """The item as it is now; None where it is gone or can't be looked at."""
    return source_for(scheme_of(item.uri)).now(item)


def find_item(uri: str) -> Item | None:
    """The item with that URI; None where there is none. Raises `UsageError` for an unknown scheme."""
    return source_for(scheme_of(uri)).find(uri)


def check_inputs(inputs: Sequence[str], files_from: str | None) -> None:
    """Raises `UsageError` where an input or the list of items can't be read."""
    for scheme, names in _by_scheme(inputs).items():
        source_for(scheme).check(names)
    if files_from is not None:
        check_manifest(files_from)


def prefixes(inputs: Sequence[str]) -> tuple[str, ...]:
    """How the URIs of what lies below the inputs begin; none for inputs that are single items."""
    found = (source_for(scheme_of(name)).prefix(name) for name in inputs)
    return tuple(prefix for prefix in found if prefix is not None)


class Corpus:
    """All that inputs of several sources hold. Iterating yields each item once, lazily.

    Inputs are names as `absolute` gives them. The items of a list come after the inputs and give way to them,
    and to what the list had before. Raises `UsageError` where the list can't be read.
    """

    def __init__(
        self, inputs: Sequence[str], files_from: str | None = None, rules: Rules | None = None
    ) -> None:
        self._files_from = files_from
        self._rules = rules or Rules()
        self._listings = {
            scheme: source_for(scheme).listing(names, self._rules)
            for scheme, names in _by_scheme(inputs).items()
        }

    def __iter__(self) -> Iterator[Found]:
        for listing in list(self._listings.values()):
            yield from listing
        if self._files_from is not None:
            yield from listed(self._files_from, self._listing_of)

    @property
    def complete(self) -> bool:
        """Whether so far everything could be listed and looked at."""
        return all(listing.complete for listing in self._listings.values())

    def _listing_of(self, name: str) -> Listing:
        """The listing of that name's scheme, with no inputs where none were given."""
        scheme = scheme_of(name)
        if scheme not in self._listings:
            self._listings[scheme] = source_for(scheme).listing((), self._rules)
        return self._listings[scheme]


def _by_scheme(inputs: Sequence[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in inputs:
        groups.setdefault(scheme_of(name), []).append(name)
    return groups
