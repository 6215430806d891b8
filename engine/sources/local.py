"""Files and folders of this machine: plain paths, or `file://` URLs."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from urllib.parse import unquote

from engine.errors import UsageError
from engine.records import source_of
from engine.sources.base import MOST_NS, Found, Item, LeftOut, Listing, OpenedItem, Rules, Source, Unreadable
from engine.sources.gitignore import GITIGNORE, GitIgnore
from engine.sources.outputs import ENGINE_OUTPUT

#: The skip rules of links that lead nowhere, by the error of following one; any other error is a failure.
BROKEN_LINKS = {errno.ENOENT: "broken-symlink", errno.ENOTDIR: "broken-symlink", errno.ELOOP: "symlink-loop"}

#: The rule of what nobody wants in an index, and the folders that it leaves out by their names; beside them
#: every `.git`, and virtual environments, which are known by this file.
EXCLUDED_BY_DEFAULT = "excluded-by-default"
UNWANTED_FOLDERS, ENVIRONMENT_FILE = ("node_modules", "__pycache__"), "pyvenv.cfg"


class LocalFile(OpenedItem):
    """A file that is read where it lies."""

    @property
    def path(self) -> str:
        return self.item.location

    def stream(self) -> BinaryIO:
        return open(self.item.location, "rb")


class LocalSource(Source):
    """Files by absolute path."""

    opens_cheaply = True

    def absolute(self, name: str) -> str:
        return absolute_path(name)

    def check(self, inputs: Sequence[str]) -> None:
        for name in inputs:
            try:
                mode = os.stat(name).st_mode
            except OSError as error:
                message = f"input {name}: {reason(error)}; give files or folders that exist"
                raise UsageError(message) from None
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise UsageError(f"input {name}: neither a file nor a folder")
            if not os.access(name, os.R_OK):
                raise UsageError(f"input {name}: permission denied; give files or folders that can be read")

    def listing(self, inputs: Sequence[str], rules: Rules) -> LocalListing:
        return LocalListing(inputs, rules)

    def prefix(self, name: str) -> str | None:
        return source_of(name).rstrip("/") + "/" if os.path.isdir(name) else None

    def open(self, item: Item) -> LocalFile:
        return LocalFile(item)

    def now(self, item: Item) -> Item | None:
        try:
            return item_of(item.location, item.uri, os.stat(item.location))
        except OSError:
            return None

    def find(self, uri: str) -> Item | None:
        raw = re.sub("%([89A-F][0-9A-F])", lambda byte: chr(0xDC00 + int(byte[1], 16)), uri)
        found = (look_at(path, uri) for path in (uri, raw) if source_of(path) == uri)
        return next((each for each in found if isinstance(each, Item)), None)


class LocalListing(Listing):
    """Inputs are absolute paths. Symbolic links to files are followed; links to folders are not, which makes
    loops impossible.

    A path that is an input itself is taken as such; any other belongs to the first input whose walk reaches
    it, with no link and no folder that is left out in between, and the later ones pass over it.
    """

    def __init__(self, inputs: Sequence[str], rules: Rules) -> None:
        self._inputs = list(dict.fromkeys(inputs))
        self._rules = rules
        self._ranks = {name: rank for rank, name in enumerate(self._inputs)}
        self._gitignore = GitIgnore() if rules.gitignore else None

    def __iter__(self) -> Iterator[Found]:
        for name in self._inputs:
            yield from self._input(name, os.path.basename(name), os.path.isdir(name))

    def more(self, name: str) -> Iterator[Found]:
        path = absolute_path(name)
        if path in self._ranks:
            return
        is_folder = os.path.isdir(path)
        if is_folder or not self._walkers(os.path.dirname(path), len(self._inputs)):
            yield from self._input(path, name, is_folder)

    def _input(self, path: str, relative: str, is_folder: bool) -> Iterator[Found]:
        """A file or a folder that was named: a link to a folder is followed here."""
        if (own := self._rules.outputs.around(path, is_folder)) is not None:
            yield from self._left_out(path, ENGINE_OUTPUT, f"in {own}")
        elif is_folder:
            yield from self._walk(path, self._walkers(path, self._rank(path)))
        else:
            yield from self._look(path, relative)

    def _rank(self, path: str) -> int:
        return self._ranks.get(path, len(self._inputs))

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
            if os.path.islink(part) or self._unwanted(part, True) or self._rules.excludes(_below(root, part)):
                return False
            part = os.path.dirname(part)
        return True

    def _walk(self, root: str, walkers: Sequence[str]) -> Iterator[Found]:
        """Depth first with one open listing for each level, so that memory follows the depth alone.

        `walkers` are earlier inputs that go through the root as well; what any of them meets is theirs.
        """
        rank, rules = self._rank(root), self._rules
        levels = [] if walkers and not rules.exclude else [(self._entries(root), walkers)]
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
            is_folder = _is_folder(entry)
            rule = self._unwanted(path, is_folder)
            if rule is None and is_folder:
                if not rules.excludes(relative):
                    through = [each for each in walkers if not rules.excludes(_below(each, path))]
                    if self._ranks.get(path, rank) < rank:
                        through.append(path)
                    # Patterns see the path below the input, so only they can leave something to this walk.
                    if not through or rules.exclude:
                        levels.append((self._entries(path), through))
                    continue
                rule = "excluded"
            if walkers or path in self._ranks:
                continue
            if rule is None:
                yield from self._look(path, relative)
            else:
                yield from self._left_out(path, rule)

    def _unwanted(self, path: str, is_folder: bool) -> str | None:
        """The rule that leaves out what a walk meets, whatever the input is that it began with."""
        rules, name = self._rules, os.path.basename(path)
        if rules.outputs.has(path, is_folder):
            return ENGINE_OUTPUT
        if rules.default_excludes and (
            name == ".git"
            or (is_folder and (name in UNWANTED_FOLDERS or os.path.exists(f"{path}/{ENVIRONMENT_FILE}")))
        ):
            return EXCLUDED_BY_DEFAULT
        if name.startswith(".") and not rules.hidden:
            return "hidden"
        return GITIGNORE if self._gitignore and self._gitignore.leaves_out(path, is_folder) else None

    def _left_out(self, path: str, rule: str, detail: str = "") -> Iterator[LeftOut]:
        uri = source_of(path)
        if self._rules.in_shard(uri):
            yield LeftOut(uri, rule, detail)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str] | Unreadable]:
        """What the folder holds; where listing it fails, at once or on the way, the failure comes last."""
        try:
            with os.scandir(folder) as listing:
                yield from listing
        except OSError as error:
            self.complete = False
            yield Unreadable(source_of(folder), reason(error))

    def _look(self, path: str, relative: str) -> Iterator[Found]:
        uri = source_of(path)
        for found in self._rules.select(uri, relative, lambda: look_at(path, uri)):
            self.complete &= not isinstance(found, Unreadable)
            yield found


def absolute_path(name: str) -> str:
    """The absolute path of a path or of a `file://` URL."""
    if name.startswith("file://"):
        name = unquote(name.removeprefix("file://"), errors="surrogateescape")
    return os.path.abspath(name)


def look_at(path: str, uri: str) -> Found:
    """What lies at the path now; links to files are followed."""
    try:
        status = os.stat(path)
    except OSError as error:
        rule = BROKEN_LINKS.get(error.errno or 0) if os.path.islink(path) else None
        return LeftOut(uri, rule, reason(error)) if rule else Unreadable(uri, reason(error))
    if stat.S_ISDIR(status.st_mode):
        return LeftOut(uri, "symlink-to-folder")
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(uri, "special-file")
    return item_of(path, uri, status)


def item_of(path: str, uri: str, status: os.stat_result) -> Item:
    """The item that the file at the path is; its time is held to what the ledger can store.

    Its version is the time of its content, that of its last change of any kind, which no program can set, and
    its inode, where the file system has one: other content may have the same size and modification time.
    """
    mtime_ns = max(-MOST_NS, min(MOST_NS, status.st_mtime_ns))
    words = (mtime_ns, status.st_ctime_ns, *([status.st_ino] if status.st_ino else []))
    return Item(uri, status.st_size, ";".join(map(str, words)), mtime_ns, path)


def local_item(path: str) -> Item:
    """The file at that path as an item. Raises `OSError`."""
    return item_of(path, source_of(path), os.stat(path))


def reason(error: OSError) -> str:
    """What the system says, in lower case."""
    return (error.strerror or str(error)).lower()


def _below(root: str, path: str) -> str:
    """The path as seen from the root above it."""
    return path[len(root) :].lstrip("/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # a file system that has to be asked again; looking at the entry will tell
        return False
