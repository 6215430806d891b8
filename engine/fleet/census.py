"""What a corpus holds, by media type and size, with a sample of each such class."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.config import Config
from engine.parsers import type_by_name
from engine.runtime.flow.intake import corpus_of
from engine.sources.base import Item, LeftOut

#: Files of each class that are drawn.
SAMPLE_FILES = 64

#: A media type, and the power of four that is next to a file's bytes.
Key: TypeAlias = tuple[str, int]


@dataclass
class Class:
    """The files of one type and size, and some of them, drawn with equal chances."""

    files: int = 0
    size: int = 0
    sample: list[Item] = field(default_factory=list)

    def add(self, file: Item, chance: random.Random) -> None:
        """Count a file, and draw it or not (Vitter, Random sampling with a reservoir, 1985, algorithm R)."""
        self.files += 1
        self.size += file.size
        if len(self.sample) < SAMPLE_FILES:
            self.sample.append(file)
        elif (place := chance.randrange(self.files)) < SAMPLE_FILES:
            self.sample[place] = file


@dataclass
class Census:
    """All that discovery meets. `left_out` and `unreadable` count paths that are no files."""

    left_out: int = 0
    unreadable: int = 0
    classes: dict[Key, Class] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """Files of all classes."""
        return sum(each.files for each in self.classes.values())

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(each.size for each in self.classes.values())


def class_of(file: Item) -> Key:
    """To which class a file belongs, by its name and its size."""
    return type_by_name(file.uri), file.size.bit_length() // 2


def take_census(config: Config) -> Census:
    """One listing of the corpus. The same listing gives the same sample. Raises `UsageError`."""
    census, chance = Census(), random.Random(0)
    for item in corpus_of(config, (0, 1)):
        if isinstance(item, Item):
            census.classes.setdefault(class_of(item), Class()).add(item, chance)
        else:
            census.left_out += isinstance(item, LeftOut)
            census.unreadable += not isinstance(item, LeftOut)
    return census
