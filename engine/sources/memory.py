"""What a Python program holds itself: texts, bytes and pictures that lie in no file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, NoReturn

from engine.errors import UsageError
from engine.sources.base import Item, Listing, OpenedItem, Rules, Source

#: The scheme of their URIs.
SCHEME = "memory"

#: Hexadecimal digits of the name that content without a name gets: 128 bits of its SHA-256.
NAME_HEX_DIGITS = 32


@dataclass(frozen=True, slots=True)
class HeldItem(Item):
    """An item that carries its content. Its modification time is the epoch, so that it is the same again."""

    content: bytes = field(repr=False)


def held(content: bytes, name: str | None = None) -> HeldItem:
    """The item `memory://NAME`; without a name, it is called by its content's SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    name = name or f"sha256-{digest[:NAME_HEX_DIGITS]}"
    return HeldItem(f"{SCHEME}://{name}", len(content), digest, 0, name, content)


class MemorySource(Source):
    """Opens such items. Nothing can be listed or found: only who holds an item has its content."""

    def absolute(self, name: str) -> str:
        return name

    def check(self, inputs: Sequence[str]) -> None:
        for name in inputs:
            _refuse(name)

    def listing(self, inputs: Sequence[str], rules: Rules) -> Listing:
        return _refuse(*inputs)

    def prefix(self, name: str) -> str | None:
        return None

    def open(self, item: Item) -> OpenedItem:
        return _Opened(item)

    def find(self, uri: str) -> Item | None:
        return None

    def now(self, item: Item) -> Item | None:
        return item


class _Opened(OpenedItem):
    def stream(self) -> BinaryIO:
        if not isinstance(self.item, HeldItem):
            raise FileNotFoundError(f"{self.item.uri}: only the program that made it has its content")
        return io.BytesIO(self.item.content)


def _refuse(*names: str) -> NoReturn:
    where = names[0] if names else f"{SCHEME}://"
    raise UsageError(f"input {where}: only a Python program has its content; give it to engine.embed_items")
