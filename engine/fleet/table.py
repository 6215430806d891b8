"""The table of a plan, `MANIFEST.plan.json`: where each shard and each lease lies in the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import UsageError
from engine.fleet.manifest import Line, members, parse_line
from engine.fleet.shards import Heavy, Share

#: Version of the table; another one is refused.
TABLE_VERSION = 1

#: What is kept of a share besides its heavy files, by column.
_NUMBERS = ("files", "size", "start", "stop", "offset", "first")


@dataclass(frozen=True)
class Table:
    """The shares of one manifest. `lines` is the digest of the manifest's lines, `unit` what work is counted
    in (`seconds` or `bytes`); `estimate` is what the plan has printed."""

    manifest: Path
    lines: str
    tasks: int
    unit: str
    heavy: Sequence[Heavy]
    shards: Sequence[Share]
    leases: Sequence[Share]
    estimate: Mapping[str, Any]

    def save(self) -> None:
        """Write it beside its manifest, whole or not at all. Raises `OSError`."""
        path = table_path(self.manifest)
        cuts = {
            "tasks": self.tasks,
            "lines": self.lines,
            "heavy": _columns(self.heavy),
            "shards": _columns(self.shards),
            "leases": _columns(self.leases),
        }
        # Tasks that cut the same files otherwise must not work together.
        digest = hashlib.sha256(json.dumps(cuts).encode()).hexdigest()
        head = {"plan": TABLE_VERSION, "digest": digest, "unit": self.unit, "estimate": dict(self.estimate)}
        content = {**head, **cuts}
        temporary = path.with_name(path.name + ".new")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(json.dumps(content, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


class Shares:
    """The shards or the leases of a manifest, in a few bytes for each.

    Raises `UsageError` where the manifest has no table, or one of another version.
    """

    def __init__(self, manifest: Path, which: str) -> None:
        self._manifest = manifest
        content = read_table(manifest)
        #: Another one for other files, and for other cuts.
        self.digest = str(content["digest"])
        #: For how many tasks it was cut.
        self.tasks = int(content["tasks"])
        self._heavy = _array(content["heavy"], "number", "offset", "first")
        self._sorted = np.sort(self._heavy["number"])
        self._shares = _array(content[which], *_NUMBERS)
        heads = content[which]["heavy"]
        self._heads = np.array([index for head in heads for index in head], dtype=np.int32)
        self._ends = np.cumsum([len(head) for head in heads], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._shares["files"])

    def files(self, number: int) -> int:
        """How many lines of the manifest the share holds."""
        return int(self._shares["files"][number])

    def lines(self, number: int) -> Iterator[Line]:
        """The share's lines: the heavy files, then its part of the tail. Raises `UsageError`."""
        end = int(self._ends[number])
        for index in self._heads[int(self._ends[number - 1]) if number else 0 : end]:
            line, offset, first = (int(self._heavy[name][index]) for name in ("number", "offset", "first"))
            yield from self._between(offset, first, line, line + 1, with_heavy=True)
        start, stop, offset, first = (
            int(self._shares[name][number]) for name in ("start", "stop", "offset", "first")
        )
        if stop > start:
            yield from self._between(offset, first, start, stop)

    def _between(
        self, offset: int, first: int, start: int, stop: int, with_heavy: bool = False
    ) -> Iterator[Line]:
        for member in members(self._manifest, offset, first):
            begin, end = max(0, start - member.first), min(len(member.lines), stop - member.first)
            for at in range(begin, end):
                number = member.first + at
                if with_heavy or not self._is_heavy(number):
                    yield parse_line(number, member.lines[at])
            if member.first + len(member.lines) >= stop:
                return
        raise UsageError(
            f"manifest {self._manifest}: it ends before line {stop}, which its plan names; it is not the one"
            " that the plan was made of: make both again with python -m engine.plan"
        )

    def _is_heavy(self, number: int) -> bool:
        at = bisect_left(self._sorted, number)
        return at < len(self._sorted) and int(self._sorted[at]) == number


def table_path(manifest: Path) -> Path:
    """Where the table of a manifest lies."""
    return manifest.with_name(manifest.name + ".plan.json")


def read_table(manifest: Path) -> dict[str, Any]:
    """The table as it was written. Raises `UsageError` where there is none, or one of another version."""
    path = table_path(manifest)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["plan"]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{path}: {reason}; the manifest's plan lies beside it: make both with python -m engine.plan"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path}: not a plan; make it again with python -m engine.plan") from None
    if version != TABLE_VERSION:
        raise UsageError(
            f"{path}: plan of version {version}, this engine reads {TABLE_VERSION};"
            " make it again with python -m engine.plan"
        )
    return content


def _columns(rows: Sequence[Heavy] | Sequence[Share]) -> dict[str, list[Any]]:
    names = [field.name for field in fields(Heavy if rows and isinstance(rows[0], Heavy) else Share)]
    if not rows:
        names = sorted({field.name for kind in (Heavy, Share) for field in fields(kind)})
    return {name: [getattr(row, name) for row in rows] for name in names}


def _array(columns: Mapping[str, list[Any]], *names: str) -> dict[str, npt.NDArray[np.int64]]:
    return {name: np.array(columns[name], dtype=np.int64) for name in names}
