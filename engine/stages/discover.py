"""Find the files of a corpus, one at a time: nothing here grows with their number."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.errors import UsageError
from engine.records import source_of

#: The skip rules of links that lead nowhere, by the error of following one; any other error is a failure.
BROKEN_LINKS = {errno.ENOENT: "broken-symlink", errno.ENOTDIR: "broken-symlink", errno.ELOOP: "symlink-loop"}

#: Nanoseconds since the epoch that 64 bits hold: times from 1677 to 2262. File systems have others, too.
MOST_NS = 2**63 - 1


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
            yield from self._input(name, os.path.basename(name))
        if self.files_from is not None:
            for name in _lines(self.files_from):
                yield from self._input(os.path.abspath(name), name)

    def _input(self, path: str, relative: str) -> Iterator[Found]:
        """A file or a folder that was named: a link to a folder is followed here."""
        if os.path.isdir(path):
            yield from self._walk(path)
        else:
            yield from self._look(path, relative)

    def _walk(self, root: str) -> Iterator[Found]:
        """Depth first with one open listing for each level, so that memory follows the depth alone."""
        levels = [self._entries(root)]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
                continue
            if isinstance(entry, Unreadable):
                yield entry
                continue
            relative = entry.path[len(root) :].lstrip("/")
            rule = "hidden" if not self.hidden and entry.name.startswith(".") else None
            if rule is None and _is_folder(entry):
                if not _matches(relative, self.exclude):
                    levels.append(self._entries(entry.path))
                    continue
                rule = "excluded"
            if rule is None:
                yield from self._look(entry.path, relative)
            elif self._in_shard(source_of(entry.path)):
                yield LeftOut(source_of(entry.path), rule)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str] | Unreadable]:
        """What the folder holds; where listing it fails, at once or on the way, the failure comes last."""
        try:
            with os.scandir(folder) as listing:
                yield from listing
        except OSError as error:
            yield self._unreadable(source_of(folder), error)

    def _look(self, path: str, relative: str) -> Iterator[Found]:
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
            rule = BROKEN_LINKS.get(error.errno or 0) if os.path.islink(path) else None
            yield LeftOut(source, rule, _reason(error)) if rule else self._unreadable(source, error)
            return
        if stat.S_ISDIR(status.st_mode):
            yield LeftOut(source, "symlink-to-folder")
        elif not stat.S_ISREG(status.st_mode):
            yield LeftOut(source, "special-file")
        else:
            yield FoundFile(path, source, status.st_size, modified_ns(status))

    def _unreadable(self, source: str, error: OSError) -> Unreadable:
        self.complete = False
        return Unreadable(source, _reason(error))

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
    if files_from is not None and files_from != "-":
        if os.path.isdir(files_from):
            raise UsageError(f"--files-from {files_from}: a folder; give a file with one path a line, or -")
        if not os.access(files_from, os.R_OK):
            raise UsageError(f"--files-from {files_from}: no such file, or it can't be read")


def modified_ns(status: os.stat_result) -> int:
    """The modification time in nanoseconds since the epoch, held to what the ledger can store."""
    return max(-MOST_NS, min(MOST_NS, status.st_mtime_ns))


def shard_of(source: str, shards: int) -> int:
    """The shard of a file, from 0: a stable hash of its path, so that no listing order plays a part."""
    if shards == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest()) % shards


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits the path below the input, or the name alone."""
    name = relative.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(relative, p) or fnmatch.fnmatchcase(name, p) for p in patterns)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # a file system that has to be asked again; looking at the entry will tell
        return False


def _lines(name: str) -> Iterator[str]:
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            for number, line in enumerate(file, 1):
                if b"\0" in line:
                    raise UsageError(
                        f"--files-from {name}: line {number} holds a NUL byte; give one path a line"
                    )
                if text := os.fsdecode(line.rstrip(b"\r\n")):
                    yield text
    except OSError as error:
        raise UsageError(f"--files-from {name}: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
