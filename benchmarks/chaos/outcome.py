"""What a finished load has left: records, file states, failures; and how two of them differ."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapters
from benchmarks.command import summary_of
from tests.integration.runs import same_record

#: Differences of each kind that are told in words.
TOLD = 5


@dataclass(frozen=True)
class Outcome:
    """`records` by id; `repeated` ids that the database has more than once; `states` of the ledger's files;
    `failures` and `skipped` as comparable lines."""

    records: dict[str, dict[str, Any]]
    repeated: list[str]
    states: dict[str, str]
    failures: set[str]
    skipped: set[str]
    #: What the run itself says that the database holds.
    booked: int


@dataclass
class Difference:
    """How a stormy outcome differs from the undisturbed one; `words` name a few of each kind."""

    lost: int = 0
    foreign: int = 0
    doubled: int = 0
    different: int = 0
    states: int = 0
    failures: int = 0
    skipped: int = 0
    miscounted: int = 0
    words: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.words)


def outcome(url: str, run_dir: Path) -> Outcome:
    """Read everything back; no run may be at work."""
    records: dict[str, dict[str, Any]] = {}
    repeated = []
    with closing(adapters.connect(url)) as adapter:
        for record in adapter.scan(with_embeddings=True):
            name = str(record["id"])
            if name in records:
                repeated.append(name)
            records[name] = record
    states = dict(_query(run_dir, "SELECT uri, state || coalesce(' ' || rule, '') FROM items"))
    summary = summary_of(run_dir)
    return Outcome(
        records,
        repeated,
        states,
        set(_lines(run_dir / "failures.jsonl", ("source", "page", "stage", "error_type", "message"))),
        set(_lines(run_dir / "skipped.jsonl", ("source", "rule"))),
        summary.totals.records,
    )


def difference(found: Outcome, wanted: Outcome) -> Difference:
    """What the storm has changed."""
    result = Difference()

    def tell(what: str, names: list[str]) -> int:
        result.words.extend(f"{what}: {name}" for name in names[:TOLD])
        if len(names) > TOLD:
            result.words.append(f"{what}: and {len(names) - TOLD} more")
        return len(names)

    mine, theirs = found.records, wanted.records
    result.lost = tell("lost", [_place(theirs[key]) for key in theirs if key not in mine])
    result.foreign = tell("foreign", [_place(mine[key]) for key in mine if key not in theirs])
    result.doubled = tell("doubled", [_place(mine[key]) for key in found.repeated])
    shared = [key for key in mine if key in theirs]
    different = [_place(mine[key]) for key in shared if not same_record(mine[key], theirs[key])]
    result.different = tell("different", different)
    files = sorted(found.states.keys() | wanted.states.keys())
    changed = [
        f"{name} is {found.states.get(name)}, not {wanted.states.get(name)}"
        for name in files
        if found.states.get(name) != wanted.states.get(name)
    ]
    result.states = tell("state", changed)
    for what in ("failures", "skipped"):
        one, other = getattr(found, what), getattr(wanted, what)
        lines = [f"only here {line}" for line in one - other] + [f"not here {line}" for line in other - one]
        setattr(result, what, tell(what, sorted(lines)))
    if found.booked != len(mine) + len(found.repeated):
        there = len(mine) + len(found.repeated)
        result.miscounted = tell(
            "miscounted", [f"the summary says {found.booked} records, {there} are there"]
        )
    return result


def was_opened(run_dir: Path) -> bool:
    """Whether a run in this directory ever came past its database's preflight. No run may be at work."""
    try:
        return any(_query(run_dir, "SELECT key, value FROM meta WHERE key = 'adapter'"))
    except sqlite3.Error:
        return False


def _query(run_dir: Path, query: str) -> Iterator[tuple[str, str]]:
    path = run_dir / "ledger.sqlite"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        yield from database.execute(query)


def _lines(path: Path, names: tuple[str, ...]) -> Iterator[str]:
    """The lines of a file, without what may differ: the attempts, and which of the parsers it was."""
    for line in path.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        yield re.sub(r"parser-\d+", "parser-N", json.dumps({name: content[name] for name in names}))


def _place(record: dict[str, Any]) -> str:
    source, page, start = record["source"], record["page"], record["start"]
    return f"{record['id']} of {source}, page {page}, from {start}"
