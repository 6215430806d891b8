"""Find the files of a corpus, one at a time: nothing here grows with their number."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.errors import UsageError
from engine.records import source_of


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file of the corpus; `mtime_ns` is its modification time in nanoseconds since the epoch."""

    path: str
    source: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A path that a rule leaves out: `hidden`, `excluded`, `not-included`, `special-file`, …"""

    source: str
    rule: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A path that could not be listed or looked at; what lies below it is unknown."""

    source: str
    message: str


Found: TypeAlias = FoundFile | LeftOut | Unreadable


@dataclass
class Discovery:
    """What to look for. Iterating yields each path once, in the order in which the file system lists it.

    `complete` turns False when anything could not be listed, so that nothing is pruned by mistake. Symbolic
    links to files are followed; links to folders are not, which makes loops impossible.
    """

    inputs: Sequence[str]
    files_from: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    shard: tuple[int, int] = (0, 1)
    complete: bool = field(default=True, init=False)

    def __iter__(self) -> Iterator[Found]:
        for name in self.inputs:
            if os.path.isdir(name):
                yield from self._walk(name)
            else:
                yield from self._look(name, os.path.basename(name), given=True)
        if self.files_from is not None:
            for name in _lines(self.files_from):
                yield from self._look(os.path.abspath(name), name, given=True)

    def _walk(self, root: str) -> Iterator[Found]:
        """Depth first with one open listing for each level, so that memory follows the depth alone."""
        levels: list[Iterator[os.DirEntry[str]]] = []

        def enter(folder: str) -> Iterator[Unreadable]:
            try:
                levels.append(os.scandir(folder))
            except OSError as error:
                self.complete = False
                yield Unreadable(source_of(folder), _reason(error))

        yield from enter(root)
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            relative = entry.path[len(root) :].lstrip("/")
            rule = "hidden" if not self.hidden and entry.name.startswith(".") else None
            if rule is None and entry.is_dir(follow_symlinks=False):
                if not _matches(relative, self.exclude):
                    yield from enter(entry.path)
                    continue
                rule = "excluded"
            if rule is None:
                yield from self._look(entry.path, relative)
            elif self._in_shard(source_of(entry.path)):
                yield LeftOut(source_of(entry.path), rule)

    def _look(self, path: str, relative: str, given: bool = False) -> Iterator[Found]:
        source = source_of(path)
        if not self._in_shard(source):
            return
        if _matches(relative, self.exclude):
            yield LeftOut(source, "excluded")
            return
        if self.include and not _matches(relative, self.include):
            yield LeftOut(source, "not-included")
            return
        try:
            status = os.stat(path)
        except OSError as error:
            if os.path.islink(path):
                rule = "symlink-loop" if error.errno == errno.ELOOP else "broken-symlink"
                yield LeftOut(source, rule, _reason(error))
            else:
                self.complete = False
                yield Unreadable(source, _reason(error))
            return
        if stat.S_ISDIR(status.st_mode):
            if given:
                yield from self._walk(path)
            else:
                yield LeftOut(source, "symlink-to-folder")
        elif not stat.S_ISREG(status.st_mode):
            yield LeftOut(source, "special-file")
        else:
            yield FoundFile(path, source, status.st_size, status.st_mtime_ns)

    def _in_shard(self, source: str) -> bool:
        return shard_of(source, self.shard[1]) == self.shard[0]


def check_inputs(inputs: Sequence[str], files_from: str | None) -> None:
    """Raises `UsageError` where an input or the list of files can't be read."""
    for name in inputs:
        try:
            mode = os.stat(name).st_mode
        except OSError as error:
            reason = _reason(error)
            raise UsageError(f"input {name}: {reason}; give files or folders that exist") from None
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise UsageError(f"input {name}: neither a file nor a folder")
        if not os.access(name, os.R_OK):
            raise UsageError(f"input {name}: permission denied; give files or folders that can be read")
    if files_from not in (None, "-") and not os.access(str(files_from), os.R_OK):
        raise UsageError(f"--files-from {files_from}: no such file, or it can't be read")


def shard_of(source: str, shards: int) -> int:
    """The shard of a file, from 0: a stable hash of its path, so that no listing order plays a part."""
    if shards == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest()) % shards


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits the path below the input, or the name alone."""
    name = relative.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def _lines(name: str) -> Iterator[str]:
    if name == "-":
        for line in sys.stdin.buffer:
            if text := os.fsdecode(line.rstrip(b"\r\n")):
                yield text
        return
    with open(name, "rb") as file:
        for line in file:
            if text := os.fsdecode(line.rstrip(b"\r\n")):
                yield text


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
