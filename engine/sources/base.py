"""The contract of a source: where items come from, one source for each URL scheme.

A source lists the items below its inputs, opens one, and tells whether one is still what it was when it was
listed. It knows nothing of parsers, processes or databases.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, ClassVar, TypeAlias

from engine.sources.outputs import Outputs

#: Nanoseconds since the epoch that 64 bits hold: times from 1677 to 2262. File systems have others, too.
MOST_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a source listed: a file, an object.

    `uri` is the `source` of its records; `size` is in bytes; `version` is a word that is another one when the
    content is (an ETag), or several, separated by `;`, of which one is; `mtime_ns` is the modification time
    in nanoseconds since the epoch, within 64 bits; `location` is what the source opens, for a local file its
    path.
    """

    uri: str
    size: int
    version: str
    mtime_ns: int
    location: str

    def same_content(self, size: int, version: str) -> bool:
        """Whether what was seen with that size and version has this content; words of the version that only
        one of the two has, because another engine saw it, say nothing."""
        words = zip(self.version.split(";"), version.split(";"), strict=False)
        return self.size == size and all(one == other for one, other in words)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a rule leaves out: `hidden`, `excluded`, `engine-output`, … Of a folder, all that is below it."""

    uri: str
    rule: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be listed or looked at; what lies below it is unknown."""

    uri: str
    message: str


Found: TypeAlias = Item | LeftOut | Unreadable


@dataclass(frozen=True, slots=True)
class Rules:
    """Which of the items that its inputs hold a run takes. A pattern fits the name relative to the input, or
    the last part of the name alone.

    `gitignore` and `default_excludes` leave out what nobody wants in an index, but for what is named itself;
    `outputs`, the engine's own files, are never taken. `shard` is (number from 0, how many).
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    shard: tuple[int, int] = (0, 1)
    gitignore: bool = True
    default_excludes: bool = True
    outputs: Outputs = field(default_factory=Outputs)

    def excludes(self, relative: str) -> bool:
        """Whether an `--exclude` pattern fits: of a folder, all that lies below it is left out."""
        return _matches(relative, self.exclude)

    def left_out(self, relative: str) -> str | None:
        """The rule that leaves an item with this name out."""
        if self.excludes(relative):
            return "excluded"
        return "not-included" if self.include and not _matches(relative, self.include) else None

    def in_shard(self, uri: str) -> bool:
        """Whether the item belongs to this run's shard."""
        return shard_of(uri, self.shard[1]) == self.shard[0]

    def select(self, uri: str, relative: str, item: Item | Callable[[], Found]) -> Iterator[Found]:
        """What a listing gives for an item: itself, the rule that leaves it out, or nothing.

        `relative` is its name below the input; an item that has to be looked at first is a call. Nothing is
        looked at that is another shard's.
        """
        if not self.in_shard(uri):
            return
        if rule := self.left_out(relative):
            yield LeftOut(uri, rule)
        else:
            yield item() if callable(item) else item


class OpenedItem(ABC):
    """An item's content while it is read. A context manager: what it took is given back at the end."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._copy: str | None = None

    @property
    def path(self) -> str:
        """A local file with the content, for libraries that read no streams; it may not be written to.

        It is a copy that is made at the first use and deleted at the end, unless a source has something
        better. Raises `OSError`.
        """
        if self._copy is None:
            with self.stream() as stream, tempfile.NamedTemporaryFile(delete=False) as copy:
                self._copy = copy.name
                shutil.copyfileobj(stream, copy)
        return self._copy

    @abstractmethod
    def stream(self) -> BinaryIO:
        """A new seekable binary stream at its start; the caller closes it. Raises `OSError`."""

    def close(self) -> None:
        """Give back what opening took; called once, at the end."""
        if self._copy is not None:
            os.unlink(self._copy)

    def __enter__(self) -> OpenedItem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Listing(ABC):
    """The items below some inputs of one source.

    Iterating yields each item once, also where inputs overlap, in an order of the source's own. It is lazy:
    memory does not grow with the number of items. What can't be listed or looked at comes as `Unreadable`
    and turns `complete` False, so that nothing is pruned by mistake; nothing is raised for it.
    """

    complete: bool = True

    @abstractmethod
    def __iter__(self) -> Iterator[Found]: ...

    @abstractmethod
    def more(self, name: str) -> Iterator[Found]:
        """What one more name holds that a manifest has; nothing where the inputs' own listing has it."""


class Source(ABC):
    """Items of one URL scheme. An instance serves one process; it is made without arguments, on use.

    Inputs are names as `absolute` gives them. A source reads secrets from the environment alone and puts them
    into no name, message or URI.
    """

    #: Whether it costs next to nothing to open an item and see how it begins.
    opens_cheaply: ClassVar[bool] = False

    @abstractmethod
    def absolute(self, name: str) -> str:
        """The name in a form that means the same from every working folder."""

    @abstractmethod
    def check(self, inputs: Sequence[str]) -> None:
        """Raises `UsageError` where an input does not exist or can't be read; called at preflight."""

    @abstractmethod
    def listing(self, inputs: Sequence[str], rules: Rules) -> Listing:
        """What the inputs hold, by these rules. Nothing is read before it is iterated."""

    @abstractmethod
    def prefix(self, name: str) -> str | None:
        """How the URI of everything below this input begins; None where the input is a single item."""

    @abstractmethod
    def open(self, item: Item) -> OpenedItem:
        """The item's content. Raises `OSError` here or when it is read."""

    @abstractmethod
    def find(self, uri: str) -> Item | None:
        """The item with that URI as it is now; None where it is gone or can't be looked at."""

    def now(self, item: Item) -> Item | None:
        """As `find`, for an item that was listed, to see whether it has changed."""
        return self.find(item.uri)


def shard_of(uri: str, shards: int) -> int:
    """The shard of an item, from 0: a stable hash of its URI, so that no listing order plays a part."""
    if shards == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest()) % shards


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    name = relative.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in patterns)
