"""What a corpus holds, by media type, with a sample of each type in which large files come first.

**Priority sampling** (Duffield, Lund and Thorup, Journal of the ACM 54(6), 2007): each file gets the priority
weight ÷ u, u drawn evenly from (0, 1], and those with the highest priorities are taken. Whatever part of them
was looked at in that order, a file of it stands for max(weight, t), where t is the highest priority that was
not looked at. A text's weight is its bytes, for so are its tokens; a picture's is 1.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from engine.config import Config
from engine.parsers import kinds_of, type_by_name
from engine.runtime.flow.intake import corpus_of
from engine.sources.base import Item, LeftOut

#: Files of each type that are drawn.
SAMPLE_FILES = 256


@dataclass(order=True, frozen=True, slots=True)
class Sampled:
    """A file that was drawn."""

    priority: float
    path: str
    source: str
    size: int
    weight: float


@dataclass
class Class:
    """The files of one media type. `sample` is a heap, the lowest priority first; `next` is the highest
    priority that is not in it."""

    files: int = 0
    size: int = 0
    sample: list[Sampled] = field(default_factory=list)
    next: float = 0.0

    def add(self, file: Item, weight: float, chance: random.Random) -> None:
        """Count a file, and draw it or not."""
        self.files += 1
        self.size += file.size
        drawn = Sampled(weight / (1.0 - chance.random()), file.location, file.uri, file.size, weight)
        if len(self.sample) < SAMPLE_FILES:
            heapq.heappush(self.sample, drawn)
        else:
            self.next = max(self.next, heapq.heappushpop(self.sample, drawn).priority)


@dataclass
class Census:
    """All that discovery meets. `left_out` and `unreadable` count paths that are no files."""

    left_out: int = 0
    unreadable: int = 0
    classes: dict[str, Class] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """Files of all types."""
        return sum(each.files for each in self.classes.values())

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(each.size for each in self.classes.values())


def take_census(config: Config) -> Census:
    """One listing of the corpus. The same listing gives the same sample. Raises `UsageError`."""
    census, chance = Census(), random.Random(0)
    for item in corpus_of(config, (0, 1)):
        if isinstance(item, Item):
            name = type_by_name(item.uri)
            picture = bool(name) and kinds_of(name) == {"image"}
            weight = 1.0 if picture else float(item.size)
            census.classes.setdefault(name, Class()).add(item, weight, chance)
        else:
            census.left_out += isinstance(item, LeftOut)
            census.unreadable += not isinstance(item, LeftOut)
    return census
