"""What a corpus holds, by media type, with a sample of each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from engine.config import Config
from engine.parsers import type_by_name
from engine.stages.discover import Discovery, FoundFile, LeftOut

#: Files of each type that are drawn; of a larger one, and of texts only its head, nothing is taken.
SAMPLE_FILES, SAMPLE_BYTES = 128, 64 * 2**20


@dataclass
class Class:
    """The files of one media type, and some of them, drawn with equal chances: path and bytes."""

    files: int = 0
    size: int = 0
    sample: list[tuple[str, int]] = field(default_factory=list)


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
    corpus = config.corpus
    listing = Discovery(corpus.inputs, corpus.files_from, corpus.include, corpus.exclude, corpus.hidden)
    for item in listing:
        if not isinstance(item, FoundFile):
            census.left_out += isinstance(item, LeftOut)
            census.unreadable += not isinstance(item, LeftOut)
            continue
        found = census.classes.setdefault(type_by_name(item.source), Class())
        found.files += 1
        found.size += item.size
        _draw(found, (item.path, item.size), chance)
    return census


def _draw(found: Class, entry: tuple[str, int], chance: random.Random) -> None:
    """A reservoir (Vitter, Random sampling with a reservoir, 1985, algorithm R)."""
    if len(found.sample) < SAMPLE_FILES:
        found.sample.append(entry)
    elif (place := chance.randrange(found.files)) < SAMPLE_FILES:
        found.sample[place] = entry
