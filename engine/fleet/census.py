"""What a manifest holds, by media type, with a sample of each; and the work of its files, in blocks."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.fleet.manifest import members
from engine.fleet.shards import Block

#: Files of each type that are drawn; of a larger one, and of texts only its head, nothing is taken.
SAMPLE_FILES, SAMPLE_BYTES = 128, 64 * 2**20

#: Work of a line besides what its bytes cost, in bytes and in seconds: opening, booking, a row in the ledger.
LINE_BYTES, LINE_S = 4096, 0.001


@dataclass
class Class:
    """The files of one media type, and some of them, drawn with equal chances: path and bytes."""

    files: int = 0
    size: int = 0
    sample: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Census:
    """All of a manifest. `left_out` and `unreadable` count lines that are no files."""

    digest: str = ""
    lines: int = 0
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


@dataclass(frozen=True)
class Weights:
    """The work of a line: `line`, and for a file `each[type]` and `a_byte[type]` times its bytes."""

    unit: str
    line: float
    each: Mapping[str, float] = field(default_factory=dict)
    a_byte: Mapping[str, float] = field(default_factory=dict)
    other_bytes: float = 0.0


#: Where nothing was measured: a file is as much work as it has bytes.
BY_BYTES = Weights("bytes", LINE_BYTES, other_bytes=1.0)


def take_census(manifest: Path) -> Census:
    """One pass over the manifest. The same manifest gives the same sample. Raises `UsageError`."""
    census, digest = Census(), hashlib.sha256()
    chance = random.Random(0)
    for member in members(manifest):
        digest.update(b"".join(member.lines))
        census.lines += len(member.lines)
        for line in member.lines:
            content = json.loads(line)
            if "path" not in content:
                census.left_out += "rule" in content
                census.unreadable += "error" in content
                continue
            found = census.classes.setdefault(content["type"], Class())
            found.files += 1
            found.size += content["size"]
            _draw(found, content, chance)
    census.digest = digest.hexdigest()
    return census


def _draw(found: Class, content: Mapping[str, Any], chance: random.Random) -> None:
    """A reservoir (Vitter, Random sampling with a reservoir, 1985, algorithm R)."""
    entry = (content["path"], content["size"])
    if len(found.sample) < SAMPLE_FILES:
        found.sample.append(entry)
    elif (place := chance.randrange(found.files)) < SAMPLE_FILES:
        found.sample[place] = entry


def weighed(manifest: Path, weights: Weights) -> Iterator[Block]:
    """The manifest's lines with their work. Raises `UsageError`."""
    for member in members(manifest):
        lines = [json.loads(line) for line in member.lines]
        sizes = [line.get("size", 0) for line in lines]
        yield Block(member.offset, member.first, _work(lines, weights), np.array(sizes, dtype=np.int64))


def _work(lines: Sequence[Mapping[str, Any]], weights: Weights) -> np.ndarray[Any, np.dtype[np.float64]]:
    work = np.full(len(lines), weights.line, dtype=np.float64)
    for at, line in enumerate(lines):
        if (media_type := line.get("type")) is not None:
            a_byte = weights.a_byte.get(media_type, weights.other_bytes)
            work[at] += weights.each.get(media_type, 0.0) + a_byte * line["size"]
    return work
