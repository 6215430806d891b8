"""Find the files of a corpus, one at a time: nothing here grows with their number."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
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

    `inputs` are absolute paths. `complete` turns False when anything could not be listed, so that nothing is
    pruned by mistake. Symbolic links to files are followed; links to folders are not, which makes loops
    impossible.

    Inputs may overlap. A path that is an input itself is taken as such; any other belongs to the first input
    whose walk reaches it, with no link and no hidden or excluded folder in between, and the later ones pass
    over it. The paths of a list come after the inputs and give way to them, and to what the list had before.
    """

    inputs: Sequence[str]
    files_from: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    shard: tuple[int, int] = (0, 1)
    #: Paths that are not looked at, because a listing that was interrupted has them already.
    known: Callable[[str], bool] | None = None
    complete: bool = field(default=True, init=False)
    #: The rank of each input: its first place on the command line.
    _ranks: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ranks = {name: rank for rank, name in reversed(list(enumerate(self.inputs)))}

    def __iter__(self) -> Iterator[Found]:
        for name in dict.fromkeys(self.inputs):
            yield from self._input(name, os.path.basename(name))
        if self.files_from is not None:
            yield from _once(self._listed(self.files_from))

    def _listed(self, files_from: str) -> Iterator[Found]:
        last = len(self.inputs)
        for name in _lines(files_from):
            path = os.path.abspath(name)
            if path in self._ranks or (
                not os.path.isdir(path) and self._walkers(os.path.dirname(path), last)
            ):
                continue
            yield from self._input(path, name)

    def _input(self, path: str, relative: str) -> Iterator[Found]:
        """A file or a folder that was named: a link to a folder is followed here."""
        if os.path.isdir(path):
            yield from self._walk(path, self._walkers(path, self._rank(path)))
        else:
            yield from self._look(path, relative)

    def _rank(self, path: str) -> int:
        return self._ranks.get(path, len(self.inputs))

    def _walkers(self, folder: str, rank: int) -> list[str]:
        """The inputs before that rank whose own walk goes through the folder."""
        walkers, above = [], folder
        while True:
            if self._ranks.get(above, rank) < rank and self._walks_to(above, folder):
                walkers.append(above)
            if above == (above := os.path.dirname(above)):
                return walkers

    def _walks_to(self, root: str, folder: str) -> bool:
        """Whether the walk of the root, where nothing changes meanwhile, goes through a folder below it."""
        part = folder
        while len(part) > len(root):
            hidden = not self.hidden and os.path.basename(part).startswith(".")
            if hidden or os.path.islink(part) or _matches(_below(root, part), self.exclude):
                return False
            part = os.path.dirname(part)
        return True

    def _walk(self, root: str, walkers: Sequence[str] = ()) -> Iterator[Found]:
        """Depth first with one open listing for each level, so that memory follows the depth alone.

        `walkers` are earlier inputs that go through the root as well; what any of them meets is theirs.
        """
        rank = self._rank(root)
        levels = [] if walkers and not self.exclude else [(self._entries(root), walkers)]
        while levels:
            listing, walkers = levels[-1]
            entry = next(listing, None)
            if entry is None:
                levels.pop()
                continue
            if isinstance(entry, Unreadable):
                if not walkers:
                    yield entry
                continue
            path = entry.path
            relative = _below(root, path)
            rule = "hidden" if not self.hidden and entry.name.startswith(".") else None
            if rule is None and _is_folder(entry):
                if not _matches(relative, self.exclude):
                    through = [each for each in walkers if not _matches(_below(each, path), self.exclude)]
                    if self._ranks.get(path, rank) < rank:
                        through.append(path)
                    # Patterns see the path below the input, so only they can leave something to this walk.
                    if not through or self.exclude:
                        levels.append((self._entries(path), through))
                    continue
                rule = "excluded"
            if walkers or path in self._ranks:
                continue
            if rule is None:
                yield from self._look(path, relative)
            elif self._in_shard(source_of(path)):
                yield LeftOut(source_of(path), rule)

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
        if self.known is not None and self.known(path):
            return
        found = look_at(path, source)
        if isinstance(found, Unreadable):
            self.complete = False
        yield found

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


def look_at(path: str, source: str) -> Found:
    """What lies at the path now; links to files are followed."""
    try:
        status = os.stat(path)
    except OSError as error:
        rule = BROKEN_LINKS.get(error.errno or 0) if os.path.islink(path) else None
        return LeftOut(source, rule, _reason(error)) if rule else Unreadable(source, _reason(error))
    if stat.S_ISDIR(status.st_mode):
        return LeftOut(source, "symlink-to-folder")
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(source, "special-file")
    return FoundFile(path, source, status.st_size, modified_ns(status))


def modified_ns(status: os.stat_result) -> int:
    """The modification time in nanoseconds since the epoch, held to what the ledger can store."""
    return max(-MOST_NS, min(MOST_NS, status.st_mtime_ns))


def shard_of(source: str, shards: int) -> int:
    """The shard of a file, from 0: a stable hash of its path, so that no listing order plays a part."""
    if shards == 1:
        return 0
    return int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest()) % shards


def _below(root: str, path: str) -> str:
    """The path as seen from the root above it."""
    return path[len(root) :].lstrip("/")


def _once(items: Iterator[Found]) -> Iterator[Found]:
    """The items whose path did not come before. Kept on disk, so that memory stays flat for any list."""
    with closing(sqlite3.connect("")) as seen:  # a temporary file of its own, gone with the connection
        seen.execute("CREATE TABLE seen (path BLOB PRIMARY KEY) WITHOUT ROWID")
        for item in items:
            # Two names can come out as one source; whoever admits files has to tell of that.
            path = os.fsencode(item.path) if isinstance(item, FoundFile) else item.source.encode()
            key = hashlib.blake2b(path, digest_size=16).digest()
            if seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount:
                yield item


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
